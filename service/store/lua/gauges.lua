-- gauges: writes what was measured into the records of its series: as it is into that of the hour, and into that of the
-- month if it is the highest so far.
--
-- KEYS  1  names of the series, by when each was last measured
-- ARGV  1  now, in seconds    2  for how many seconds a name is kept    3  how many series at most
--       4  what a record's key begins with    5  how many numbers each has    6  the width of one, as in u48
--       7  the hour's key: what stands before the series, seconds to live, first bit (7, 8, 9)
--       10  the month's, likewise (10, 11, 12)    13  how many bits a number has
--       then for each series: its name, and its numbers

redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[1] - ARGV[2])
local count, bits = tonumber(ARGV[5]), tonumber(ARGV[13])
local at = 14
while at <= #ARGV do
  local series = ARGV[at]
  if redis.call('ZSCORE', KEYS[1], series) or redis.call('ZCARD', KEYS[1]) < tonumber(ARGV[3]) then
    redis.call('ZADD', KEYS[1], ARGV[1], series)
    local hour, month = ARGV[4] .. ARGV[7] .. series, ARGV[4] .. ARGV[10] .. series
    for i = 1, count do
      local number = ARGV[at + i]
      redis.call('BITFIELD', hour, 'SET', ARGV[6], ARGV[9] + (i - 1) * bits, number)
      local place = ARGV[12] + (i - 1) * bits
      if redis.call('BITFIELD', month, 'GET', ARGV[6], place)[1] < tonumber(number) then
        redis.call('BITFIELD', month, 'SET', ARGV[6], place, number)
      end
    end
    redis.call('EXPIRE', hour, ARGV[8])
    redis.call('EXPIRE', month, ARGV[11])
  end
  at = at + count + 1
end
return 1
