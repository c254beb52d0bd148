-- count: how many tasks stand on the shelves that a filter admits.
--
-- uses admits.lua
-- KEYS  1…  names of shelves, of one partition each
-- ARGV  1, 2  the oldest and the newest creation time, as ZCOUNT takes them
--       3  types    4  queues    5  statuses: each as ":a:b:"; "" for any    6  types that are left out, likewise
--       7…  per partition: what a shelf's name is appended to
--
-- Returns the number.

local function is_left_out(name)
  return string.find(ARGV[6], ':' .. (string.match(name, '^([^:]*):') or '') .. ':', 1, true)
end

local count = 0
for i, names in ipairs(KEYS) do
  for _, name in ipairs(redis.call('SMEMBERS', names)) do
    if admits(name, 3) and not is_left_out(name) then
      count = count + redis.call('ZCOUNT', ARGV[6 + i] .. name, ARGV[1], ARGV[2])
    end
  end
end
return count
