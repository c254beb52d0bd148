-- later: moves due times on, each only while its document is still what was read. So what cannot be queued now
-- keeps a due time, and is not in the way of others.
--
-- KEYS  1  due times    2…  documents
-- ARGV  1  by how many seconds, from now by Redis's clock    2…  text as read

local time = redis.call('TIME')
local due = (time[1] + ARGV[1]) * 1000000 + time[2]
for i = 2, #KEYS do
  if redis.call('GET', KEYS[i]) == ARGV[i] then
    redis.call('ZADD', KEYS[1], 'XX', string.format('%.0f', due), KEYS[i])
  end
end
