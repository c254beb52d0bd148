-- layout: writes down whose data this Redis holds, only while the record still is what the caller read.
--
-- KEYS  1  the record
-- ARGV  1  record as read ("" for none)    2  record to be
--
-- Returns 1 if it is written, 0 if somebody was quicker.

if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2])
return 1
