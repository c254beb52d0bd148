-- resume: ends a pause, and wakes whoever waits for that.
--
-- KEYS  1…  per partition: pauses, the stream in which the end of a pause is told
-- ARGV  1  queue:… or type:…
--
-- Returns in how many partitions there was such a pause.

local ended = 0
for i = 1, #KEYS, 2 do
  ended = ended + redis.call('HDEL', KEYS[i], ARGV[1])
  redis.call('XADD', KEYS[i + 1], 'MAXLEN', 1, '*', 'what', ARGV[1])
end
return ended
