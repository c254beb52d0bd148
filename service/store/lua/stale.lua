-- stale: removes due times that lead to nothing, each only while its document is still what was read.
--
-- KEYS  1  due times    2…  documents
-- ARGV  1…  text as read

for i = 2, #KEYS do
  if redis.call('GET', KEYS[i]) == ARGV[i - 1] then
    redis.call('ZREM', KEYS[1], KEYS[i])
  end
end
