-- due: what Redis's own clock says is due, with the documents. A pointer without a document is removed.
--
-- KEYS  1…  due times, of one partition each, then as many timetables
-- ARGV  1  how many at most    2  how many bytes of documents: one more than fits is the last
--
-- Returns 1 if the time of a schedule has come, else 0; then a flat list: UID, document; and so on.

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local wanted, room = tonumber(ARGV[1]), tonumber(ARGV[2])
local partitions = #KEYS / 2
local found = { 0 }
for i = partitions + 1, #KEYS do
  if #redis.call('ZRANGEBYSCORE', KEYS[i], '-inf', now, 'LIMIT', 0, 1) > 0 then
    found[1] = 1
  end
end
for i = 1, partitions do
  local due = KEYS[i]
  for _, uid in ipairs(redis.call('ZRANGEBYSCORE', due, '-inf', now, 'LIMIT', 0, wanted)) do
    wanted = wanted - 1
    local text = redis.call('GET', uid)
    if text then
      found[#found + 1] = uid
      found[#found + 1] = text
      room = room - #text
      if room <= 0 then
        return found
      end
    else
      redis.call('ZREM', due, uid)
    end
  end
end
return found
