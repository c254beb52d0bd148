-- shelves: the newest tasks of several shelves, at one moment, so that none is missed while it moves.
--
-- KEYS  1…  shelves
-- ARGV  1  created at the latest (score)    2  how many of each
--
-- Returns per shelf a flat list: UID, created (score); and so on.

local found = {}
for i, shelf in ipairs(KEYS) do
  found[i] = redis.call('ZREVRANGEBYSCORE', shelf, ARGV[1], '-inf', 'WITHSCORES', 'LIMIT', 0, ARGV[2])
end
return found
