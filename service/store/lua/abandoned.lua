-- abandoned: looks at some unique keys, and takes them from tasks that have none any more: older releases have ended
-- them, or what could not be read was purged.
--
-- uses unique.lua
-- KEYS  1  unique keys
-- ARGV  1  cursor    2  how many at about
--
-- Returns the cursor to go on with; "0" at the end.

local keys = unique_keys(KEYS[1])
local answer = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
for i = 1, #answer[2], 2 do
  keys.holder_of(answer[2][i])
end
return answer[1]
