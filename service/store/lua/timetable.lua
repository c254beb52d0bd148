-- timetable: the schedules of some timetables: all, or those whose time has come by Redis's own clock. A place without a
-- schedule is removed.
--
-- KEYS  1…  timetables, of one partition each
-- ARGV  1  "due" or "all"      2  how many of each at most, or -1
--       3…  per timetable: what a schedule's name is put behind
--
-- Returns what Redis's clock says (microseconds), then a flat list: name, schedule; and so on.

local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000000 + time[2])
local highest = ARGV[1] == 'due' and now or '+inf'
local found = { now }
for i, timetable in ipairs(KEYS) do
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', timetable, '-inf', highest, 'LIMIT', 0, ARGV[2])) do
    local text = redis.call('GET', ARGV[i + 2] .. name)
    if text then
      found[#found + 1] = name
      found[#found + 1] = text
    else
      redis.call('ZREM', timetable, name)
    end
  end
end
return found
