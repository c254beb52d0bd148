-- shelves: the newest tasks of the shelves that a filter admits, all at one moment: a task that moves at the same
-- time, even to a new shelf, is found. Shelves lie in the slot of their names (docs/store.md, One slot).
--
-- uses admits.lua
-- KEYS  1…  names of shelves, of one partition each
-- ARGV  1, 2  where the page before ended: created (score), UID; "" for none
--       3  how many at most    4  the oldest creation time; "" for any
--       5  types    6  queues    7  statuses: each as ":a:b:"; "" for any
--       8…  per partition: what a shelf's name is appended to
--
-- Each shelf is read from its newest task on, and no further than its tasks are wanted: so a page costs what it
-- returns, and a look at each shelf.
-- Returns a flat list, newest first: UID, created (score); and so on.

local FIRST, MOST = 1, 128

local ended, uid_before, wanted, oldest = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])

-- Goes on to the shelf's next task; false if there is none.
local function advance(shelf)
  while true do
    if shelf.place > #shelf.read then
      shelf.read = redis.call('ZREVRANGE', shelf.key, shelf.rank, shelf.rank + shelf.size - 1, 'WITHSCORES')
      shelf.rank, shelf.size, shelf.place = shelf.rank + shelf.size, math.min(8 * shelf.size, MOST), 1
      if #shelf.read == 0 then
        return false
      end
    end
    shelf.uid, shelf.text = shelf.read[shelf.place], shelf.read[shelf.place + 1]
    shelf.created, shelf.place = tonumber(shelf.text), shelf.place + 2
    if oldest and shelf.created < oldest then
      return false
    end
    if shelf.created ~= ended or shelf.uid < uid_before then
      return true
    end
  end
end

local function is_older(one, other)
  return one.created < other.created or (one.created == other.created and one.uid < other.uid)
end

local shelves = {} -- the one with the newest task is the last
for i, names in ipairs(KEYS) do
  for _, name in ipairs(redis.call('SMEMBERS', names)) do
    if admits(name, 5) then
      local key = ARGV[7 + i] .. name
      local rank = ended and redis.call('ZCOUNT', key, '(' .. ARGV[1], '+inf') or 0
      local shelf = { key = key, rank = rank, size = FIRST, read = {}, place = 1 }
      if advance(shelf) then
        shelves[#shelves + 1] = shelf
      end
    end
  end
end
table.sort(shelves, is_older)

local found = {}
while #shelves > 0 and wanted > 0 do
  local newest = table.remove(shelves)
  found[#found + 1] = newest.uid
  found[#found + 1] = newest.text
  wanted = wanted - 1
  if advance(newest) then
    local low, high = 1, #shelves + 1
    while low < high do
      local middle = math.floor((low + high) / 2)
      if is_older(shelves[middle], newest) then
        low = middle + 1
      else
        high = middle
      end
    end
    table.insert(shelves, low, newest)
  end
end
return found
