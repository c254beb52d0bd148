-- shelves: the newest tasks of the shelves that a filter admits, all at one moment: a task that moves at the same
-- time, even to a new shelf, is found. Shelves lie in the slot of their names (docs/store.md, One slot).
--
-- KEYS  1  names of shelves
-- ARGV  1  what a shelf's name is appended to    2  created at the latest (score)    3  how many of each
--       4  type    5  queue    6  status; "" for any
--
-- Returns per shelf a flat list: UID, created (score); and so on.

local function admits(name)
  local parts = { string.match(name, '^([^:]*):([^:]*):([^:]*)$') }
  for i = 1, 3 do
    if ARGV[3 + i] ~= '' and ARGV[3 + i] ~= parts[i] then
      return false
    end
  end
  return true
end

local found = {}
for _, name in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  if admits(name) then
    local shelf = ARGV[1] .. name
    found[#found + 1] = redis.call('ZREVRANGEBYSCORE', shelf, ARGV[2], '-inf', 'WITHSCORES', 'LIMIT', 0, ARGV[3])
  end
end
return found
