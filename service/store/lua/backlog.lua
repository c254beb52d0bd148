-- backlog: how many tasks each queue has in each status, and when the head of each was queued. It counts
-- nothing by itself: a shelf knows its size, and what a group was given last leads to the next entry.
-- Shelves and streams lie in the slot of their names (docs/store.md, One slot).
--
-- uses in_force.lua
-- KEYS  1  names of shelves    2  pauses
-- ARGV  1  group    2  what a shelf's name is appended to    3…  what a queue's name is appended to, for each
--       of its streams
--
-- Returns the time (ms), a flat list of queue, status, number, a flat list of queue, when its head was queued (ms),
-- and the paused queues.

local function head(stream)
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  if groups.err then
    return nil -- nothing was ever queued there
  end
  local last = '0-0'
  for _, fields in ipairs(groups) do
    local group = {}
    for i = 1, #fields, 2 do
      group[fields[i]] = fields[i + 1]
    end
    if group['name'] == ARGV[1] then
      last = group['last-delivered-id']
    end
  end
  local following = redis.call('XRANGE', stream, '(' .. last, '+', 'COUNT', 1)[1]
  return following and tonumber(string.match(following[1], '^%d+'))
end

local counts, queues, heads = {}, {}, {}
for _, name in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local queue, status = string.match(name, ':([^:]*):([^:]*)$')
  if status == 'queued' or status == 'running' or status == 'scheduled' then
    counts[#counts + 1] = queue
    counts[#counts + 1] = status
    counts[#counts + 1] = redis.call('ZCARD', ARGV[2] .. name)
    queues[queue] = true
  end
end
for queue in pairs(queues) do
  for place = 3, #ARGV do
    local queued = head(ARGV[place] .. queue)
    if queued then
      heads[#heads + 1] = queue
      heads[#heads + 1] = queued
    end
  end
end
local now, paused = redis.call('TIME'), {}
local pauses = redis.call('HGETALL', KEYS[2])
for i = 1, #pauses, 2 do
  local queue = string.match(pauses[i], '^queue:(.*)')
  if queue and is_in_force(pauses[i + 1]) then
    paused[#paused + 1] = queue
  end
end
return { now[1] * 1000 + math.floor(now[2] / 1000), counts, heads, paused }
