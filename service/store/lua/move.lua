-- move: every change of stored documents: claim, settle, hand back, promote, cancel, retry, progress.
-- A batch shares its old and its new shelf; each document moves only if it still is what the caller read.
--
-- uses in_force.lua
-- uses unique.lua
-- uses limits.lua
-- KEYS  1  shelf it leaves       2  shelf it joins         3  names of shelves    4  due times
--       5  stream of its entry   6  stream to wait in      7  number of takes   8  pauses
--       9  names of lots        10  lot                   11…  documents
-- ARGV  1  group                 2  name of shelf joined   3  status before       4  status after
--       5  consumer that must hold the entries, or ""      6  number of takes when it read them
--       7  time to live in ms, or ""   8  channel that tells of changes
--       9  what the caller's clock says (microseconds), or ""      10  name of the lot
--       11  "" where neither a log nor earlier attempts begin or cease to expire, else 1
--       12  what the name of a document's log is put behind    13  that of its earlier attempts
--       14  how many of those stay     15  what all names begin with
--       16  what becomes of places of limits: "claim"; "leave", "back" or "unstarted" where a claim ends; "join"; or ""
--       17  stream to wait in when admitted
--       then per document: text as read, text to be, created (score), entry, due by the caller's clock, or ""
--       then, if there is something in 16, per document: its places, with blanks between
--       then for some: place (from 1), an attempt to be kept
--       or, where the change makes a task leave its unique key or take it again, or a claim asks whether it waits behind
--       another one: 0, the unique keys; then for each such task: its place below zero, its key, after a "?" if it is only
--       asked
--
-- The entry: with a consumer in 5 it must be pending for it, and stays (a claim, news of progress);
-- without one it is dropped if it is not "" (a settlement, a hand-back). Where nothing has been taken
-- from anybody since the consumer read its entries, they are all its own, and need not be looked up.
-- What is queued in a paused queue is not claimed, but goes back to the front of its queue; what is of a paused type
-- goes to its lot. What is queued after its end is refused while another task has its unique key. What a limit holds up
-- waits at its place. Where a limit has changed since the caller looked, a claim is refused. What waits behind the task
-- that has its unique key is not claimed: the entry is of an earlier task with this UID.
-- Returns the places (from 1) of the documents that were refused, and below zero the places of those that were paused, are
-- held up, or wait behind another.

local group, name, before, after = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local consumer, takes, ttl = ARGV[5], ARGV[6], ARGV[7]
local base, act, line = ARGV[15], ARGV[16], ARGV[17]
local first = 11 -- the first document
local count = #KEYS - first + 1

local rest = 5 * count + 18 -- where the documents' own arguments end
local further = act == '' and rest or rest + count -- what only some of them have
local function places(i)
  return ARGV[rest + i - 1]
end

-- A pause is as long by Redis's clock as it was meant to be, however far the caller's clock is off.
local ahead = 0
if ARGV[9] ~= '' then
  local time = redis.call('TIME')
  ahead = time[1] * 1000000 + time[2] - ARGV[9]
end

local unsure = consumer ~= '' and (redis.call('GET', KEYS[7]) or '0') ~= takes

-- pcall: an error half-way would leave half a change. Without stream or group, nothing is pending.
local function is_taken(entry)
  return #redis.pcall('XPENDING', KEYS[5], group, entry, entry, 1, consumer) == 0
end

-- Both live as long as the document.
local function keep_beside(uid)
  for at = 12, 13 do
    if ttl == '' then
      redis.call('PERSIST', ARGV[at] .. uid)
    else
      redis.call('PEXPIRE', ARGV[at] .. uid, ttl)
    end
  end
end

local keys, key_of, asked_of -- the unique keys, and those of these tasks
for at = further, #ARGV, 2 do
  if ARGV[at] == '0' then
    keys, key_of, asked_of = unique_keys(ARGV[at + 1]), {}, {}
  elseif keys then
    local mark, key = string.match(ARGV[at + 1], '^(%??)(.*)')
    local of = mark == '' and key_of or asked_of
    of[-ARGV[at]] = key
  end
end
local takes_keys = keys and after == 'queued'

local is_claim = before == 'queued' and after == 'running'
local pause -- what keeps the batch from being claimed: its queue, or its type
if is_claim then
  local type, queue = string.match(name, '^([^:]*):([^:]*):')
  local pauses = redis.call('HMGET', KEYS[8], 'queue:' .. queue, 'type:' .. type)
  pause = is_in_force(pauses[1]) and 'queue' or is_in_force(pauses[2]) and 'type'
end

local leaves_queue = before == 'queued' and after ~= 'running'
local limits = (act ~= '' or pause == 'type' or leaves_queue) and limits_part()
local now = limits and limits.clock()

local refused, joining, leaving, dropped, texts, parked = {}, {}, {}, {}, {}, {}
local moved = {}

-- Of a batch, the first one has it: its document may not be written yet.
local function is_held(key)
  local holder = key and keys.on_record(key)
  return holder and (moved[holder] or keys.holder_of(key))
end

local asks = is_claim and keys
local function waits_behind(i, uid)
  local key = asked_of[i] or key_of[i]
  return key and keys.waits(key, uid)
end

local present = redis.call('MGET', unpack(KEYS, first))
for i = 1, count do
  local at = 5 * i + 13
  local uid, text, entry = KEYS[first + i - 1], ARGV[at + 1], ARGV[at + 3]
  -- Two entries of a batch may point at the same document: the second one comes too late.
  if
    present[i] ~= ARGV[at]
    or moved[uid]
    or (unsure and is_taken(entry))
    or (takes_keys and is_held(key_of[i]))
    or (act == 'claim' and not limits.are_current(base, places(i)))
  then
    refused[#refused + 1] = i
  elseif pause then
    refused[#refused + 1] = -i
    dropped[#dropped + 1] = entry
    if pause == 'queue' then
      redis.call('XADD', KEYS[6], '*', 'uid', uid)
    else
      parked[#parked + 1] = ARGV[at + 2]
      parked[#parked + 1] = uid
      limits.forget(base, uid, now)
    end
  elseif asks and waits_behind(i, uid) then
    refused[#refused + 1] = -i
    dropped[#dropped + 1] = entry
  elseif act == 'claim' and not limits.enter(base, uid, places(i), line, ARGV[at + 2], now) then
    refused[#refused + 1] = -i
    dropped[#dropped + 1] = entry
  else
    moved[uid] = i
    if ttl == '' then
      texts[#texts + 1] = uid
      texts[#texts + 1] = text
    else
      redis.call('SET', uid, text, 'PX', ttl)
    end
    if ARGV[11] ~= '' then
      keep_beside(uid)
    end
    if keys and key_of[i] then
      local change = takes_keys and keys.take or keys.leave
      change(key_of[i], uid)
    end
    leaving[#leaving + 1] = uid
    joining[#joining + 1] = ARGV[at + 2]
    joining[#joining + 1] = uid
    if act == 'join' then
      limits.join(base, uid, places(i), line, ARGV[at + 2], now)
    elseif after == 'queued' then
      redis.call('XADD', KEYS[6], '*', 'uid', uid)
    elseif after == 'scheduled' then
      redis.call('ZADD', KEYS[4], string.format('%.0f', ARGV[at + 4] + ahead), uid)
    end
    if entry ~= '' and consumer == '' then
      dropped[#dropped + 1] = entry
    end
    if act ~= '' then
      if act ~= 'claim' and act ~= 'join' then
        limits.leave(base, uid, places(i), act ~= 'leave', act == 'unstarted', line, now)
      end
    elseif leaves_queue then
      limits.forget(base, uid, now)
    end
  end
end

for at = further, #ARGV, 2 do
  local place = tonumber(ARGV[at])
  local uid = KEYS[first + place - 1]
  if place > 0 and moved[uid] == place then
    redis.call('RPUSH', ARGV[13] .. uid, ARGV[at + 1])
    redis.call('LTRIM', ARGV[13] .. uid, -ARGV[14], -1)
  end
end
if #texts > 0 then
  redis.call('MSET', unpack(texts))
end
if #leaving > 0 then
  if before == 'scheduled' and after ~= 'scheduled' then
    redis.call('ZREM', KEYS[4], unpack(leaving))
  end
  if after == 'cancelled' then
    redis.call('ZREM', KEYS[10], unpack(leaving))
  end
  if KEYS[1] ~= KEYS[2] then
    redis.call('ZREM', KEYS[1], unpack(leaving))
    redis.call('ZADD', KEYS[2], unpack(joining))
    redis.call('SADD', KEYS[3], name)
  end
  -- pcall: a user without the right to publish may still move tasks.
  redis.pcall('SPUBLISH', ARGV[8], after .. ' ' .. table.concat(leaving, ' '))
end
if consumer ~= '' and #dropped > 0 then
  redis.call('INCR', KEYS[7]) -- as if taken: should this very script come again, it finds no entries to claim
end
if #parked > 0 then
  redis.call('ZADD', KEYS[10], unpack(parked))
  redis.call('SADD', KEYS[9], ARGV[10])
end
if #dropped > 0 then
  redis.call('XACK', KEYS[5], group, unpack(dropped))
  redis.call('XDEL', KEYS[5], unpack(dropped))
end
return refused
