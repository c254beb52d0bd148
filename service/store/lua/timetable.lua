-- timetable: the schedules of some timetables: all, or those whose time has come by Redis's own clock. Where these are
-- too many for one answer, it has another part of them each turn: who asks may have to leave the first ones alone. A
-- place without a schedule is removed.
--
-- KEYS  1…  timetables, of one partition each
-- ARGV  1  "due" or "all"      2  how many of each at most, or -1      3  the number of the turn
--       4…  per timetable: what a schedule's name is put behind
--
-- Returns what Redis's clock says (microseconds), then a flat list: name, schedule; and so on.

local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000000 + time[2])
local highest = ARGV[1] == 'due' and now or '+inf'
local found = { now }
local most = tonumber(ARGV[2])
for i, timetable in ipairs(KEYS) do
  local parts = most < 0 and 1 or math.ceil(redis.call('ZCOUNT', timetable, '-inf', highest) / most)
  local first = parts > 1 and ARGV[3] % parts * most or 0
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', timetable, '-inf', highest, 'LIMIT', first, most)) do
    local text = redis.call('GET', ARGV[i + 3] .. name)
    if text then
      found[#found + 1] = name
      found[#found + 1] = text
    else
      redis.call('ZREM', timetable, name)
    end
  end
end
return found
