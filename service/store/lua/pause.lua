-- pause: from now on nobody is given a queue's tasks, or nobody may claim a type's.
--
-- KEYS  1…  pauses, one per partition
-- ARGV  1  queue:… or type:…    2  what is told of the pause
--       3  when it ends by the caller's clock (microseconds), or ""    4  what that clock says

local ends = ''
if ARGV[3] ~= '' then
  local time = redis.call('TIME')
  ends = string.format('%.0f', ARGV[3] - ARGV[4] + time[1] * 1000000 + time[2])
end
for _, pauses in ipairs(KEYS) do
  redis.call('HSET', pauses, ARGV[1], ends .. ' ' .. ARGV[2])
end
