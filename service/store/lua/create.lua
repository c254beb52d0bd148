-- create: stores new documents and what points at them, all or none.
--
-- uses unique.lua
-- uses limits.lua
-- KEYS  1  names of shelves      2  due times      3…  per task: document, shelf, stream to wait in
--       then, if a schedule creates the task: the schedule, the timetable, perhaps the document of its last task
-- ARGV  1  number of tasks       2  channel that tells of changes
--       3  what the caller's clock says (microseconds)
--       then per task: the document, the shelf's name, created (score), due by the caller's clock, or ""
--       then, where tasks have unique keys or limits bound them: what all names begin with, time to live (ms) of what is
--       replaced, number of those with unique keys,
--       and per such task: its place (from 1), its key, what it wants of who was seen to have the key: "" nothing,
--       "over" its place, "behind" to wait behind it; the UIDs of that one, and of the one that waits behind it, or "";
--       of the one that is replaced: text as read, text to be, shelf left, shelf joined, created (score), lot;
--       then per task that limits bound: its place (from 1), all its places at limits
--       last, if a schedule creates the task: its text as read, its text to be, its name, when it is looked at next
--       (score), the last task's document as read, or ""
--
-- Replaced is who has the key ("over"), or who waits behind it ("behind", if anybody does). Names that are no KEYS lie
-- in the same slot (docs/store.md, One slot).
--
-- Returns an empty list when all are stored. A schedule moves on with its task; if it, or its last task, is not what was
-- read, nothing changes, and the answer is 0. If any of the documents is there already, nothing changes, and the answer
-- lists every document's present text, or false; after 4 MiB, 1 for one that is there and is to be read by itself, for
-- Redis serves nobody else meanwhile. If a key is not free, and not as it was seen, nothing changes either:
-- place, UID of who has it, its text, UID of who waits behind it (or ""), its text or false; and so on.

local count = tonumber(ARGV[1])
local uids = {}
for i = 1, count do
  uids[i] = KEYS[3 * i]
end
local schedule, timetable, last = unpack(KEYS, 3 * count + 3, 3 * count + 5)
local said = {} -- of the schedule: it is taken off the end of ARGV
if schedule then
  for i = 5, 1, -1 do
    said[i] = table.remove(ARGV)
  end
end
if schedule and redis.call('GET', schedule) ~= said[1] then
  return 0
end
if last and (redis.call('GET', last) or '') ~= said[5] then
  return 0
end
if redis.call('EXISTS', unpack(uids)) > 0 then
  local found, bytes = {}, 0
  for i, uid in ipairs(uids) do
    if bytes < 4194304 then
      found[i] = redis.call('GET', uid)
      bytes = bytes + (found[i] and #found[i] or 0)
    else
      found[i] = redis.call('EXISTS', uid) == 1 and 1
    end
  end
  return found
end

-- The unique keys. First all of them are looked at; then who gives way is replaced, and the keys are taken.
local behind = {} -- by place: whose end a task waits for
local rest, width = 4 * count + 4, 11
local base, ttl = ARGV[rest], ARGV[rest + 1]
local limits = base and limits_part()
local now = limits and limits.clock()
local limited = rest + 3 + width * (ARGV[rest + 2] or 0)
if limited > rest + 3 then
  local keys, conflicts, replaced = unique_keys(base .. 'unique'), {}, {}
  for at = rest + 3, limited - 1, width do
    local place, wish = tonumber(ARGV[at]), ARGV[at + 2]
    local holder, waits = keys.holder_of(ARGV[at + 1])
    if holder then
      local gives_way = wish == 'over' and holder or waits
      local is_seen = holder == ARGV[at + 3] and waits == ARGV[at + 4]
      local is_same = gives_way == '' or redis.call('GET', gives_way) == ARGV[at + 5]
      if wish == '' or not is_seen or not is_same then
        local waits_text = waits ~= '' and redis.call('GET', waits)
        for _, value in ipairs({ place, holder, redis.call('GET', holder), waits, waits_text }) do
          conflicts[#conflicts + 1] = value
        end
      elseif gives_way ~= '' then
        replaced[at] = gives_way
      end
      behind[place] = wish == 'behind' and holder or nil
    end
  end
  if #conflicts > 0 then
    return conflicts
  end
  for at, uid in pairs(replaced) do
    redis.call('SET', uid, ARGV[at + 6], 'PX', ttl)
    redis.call('PEXPIRE', base .. 'log:' .. uid, ttl)
    redis.call('PEXPIRE', base .. 'attempts:' .. uid, ttl)
    redis.call('ZREM', KEYS[2], uid)
    redis.call('ZREM', base .. 'lot:' .. ARGV[at + 10], uid)
    limits.forget(base, uid, now)
    redis.call('ZREM', base .. 'shelf:' .. ARGV[at + 7], uid)
    redis.call('ZADD', base .. 'shelf:' .. ARGV[at + 8], ARGV[at + 9], uid)
    redis.call('SADD', KEYS[1], ARGV[at + 8])
    redis.pcall('SPUBLISH', ARGV[2], 'cancelled ' .. uid)
  end
  for at = rest + 3, limited - 1, width do
    local place = tonumber(ARGV[at])
    if behind[place] then
      keys.take(ARGV[at + 1], behind[place], uids[place], KEYS[3 * place + 2])
    else
      keys.take(ARGV[at + 1], uids[place])
    end
  end
end

-- A delay is as long by Redis's clock as it was meant to be, however far the caller's clock is off.
local time = redis.call('TIME')
local ahead = time[1] * 1000000 + time[2] - ARGV[3]

local bounded = {}
for at = limited, #ARGV, 2 do
  bounded[tonumber(ARGV[at])] = ARGV[at + 1]
end

local texts, shelves, names = {}, {}, {}
local queued, scheduled = {}, {}
for i = 1, count do
  local uid, shelf, stream = uids[i], KEYS[3 * i + 1], KEYS[3 * i + 2]
  local due = ARGV[4 * i + 3]
  texts[2 * i - 1], texts[2 * i] = uid, ARGV[4 * i]
  if not shelves[shelf] then
    shelves[shelf] = {}
    names[#names + 1] = ARGV[4 * i + 1]
  end
  local joining = shelves[shelf]
  joining[#joining + 1] = ARGV[4 * i + 2]
  joining[#joining + 1] = uid
  if due == '' then
    if not behind[i] and not bounded[i] then
      redis.call('XADD', stream, '*', 'uid', uid)
    end
    queued[#queued + 1] = uid
  else
    redis.call('ZADD', KEYS[2], string.format('%.0f', due + ahead), uid)
    scheduled[#scheduled + 1] = uid
  end
end
redis.call('MSET', unpack(texts))
for i = 1, count do -- the oldest first
  if bounded[i] and not behind[i] then
    limits.join(base, uids[i], bounded[i], KEYS[3 * i + 2], ARGV[4 * i + 2], now)
  end
end
redis.call('SADD', KEYS[1], unpack(names))
for shelf, joining in pairs(shelves) do
  redis.call('ZADD', shelf, unpack(joining))
end
if schedule then
  redis.call('SET', schedule, said[2])
  redis.call('ZADD', timetable, said[4], said[3])
end
-- pcall: a user without the right to publish may still create tasks.
if #queued > 0 then
  redis.pcall('SPUBLISH', ARGV[2], 'queued ' .. table.concat(queued, ' '))
end
if #scheduled > 0 then
  redis.pcall('SPUBLISH', ARGV[2], 'scheduled ' .. table.concat(scheduled, ' '))
end
return {}
