-- history: adds what a process has counted to the records of its series. Counters stay at their highest value.
--
-- KEYS  1  names of the series, by when each was last counted    2  the number of this process's last batch
-- ARGV  1  the number of this batch    2  for how many seconds it is remembered
--       3  now, in seconds    4  for how many seconds a name is kept    5  how many series at most, but for
--       6  the name that takes all    7  the name that takes what is too much    8  what a record's key begins with
--       then for each record: series, what stands before the series in its key, seconds to live, number of words, and
--       the words of BITFIELD
--
-- A batch that comes a second time, because its answer was lost, is not counted again.

if tonumber(redis.call('GET', KEYS[2]) or 0) >= tonumber(ARGV[1]) then
  return 0
end
redis.call('SET', KEYS[2], ARGV[1], 'EX', ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[3] - ARGV[4])

local function is_there(series)
  return redis.call('ZSCORE', KEYS[1], series) and 1 or 0
end

local function admitted(series)
  if series ~= ARGV[6] and is_there(series) == 0 then
    local own = redis.call('ZCARD', KEYS[1]) - is_there(ARGV[6]) - is_there(ARGV[7])
    if own >= tonumber(ARGV[5]) then
      series = ARGV[7]
    end
  end
  redis.call('ZADD', KEYS[1], ARGV[3], series)
  return series
end

local at = 9
while at <= #ARGV do
  local key = ARGV[8] .. ARGV[at + 1] .. admitted(ARGV[at])
  local last = at + 3 + tonumber(ARGV[at + 3])
  redis.call('BITFIELD', key, unpack(ARGV, at + 4, last))
  redis.call('EXPIRE', key, ARGV[at + 2])
  at = last + 1
end
return 1
