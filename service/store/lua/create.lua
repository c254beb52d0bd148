-- create: stores new documents and what points at them, all or none.
--
-- KEYS  1  names of shelves      2  due times      3…  per task: document, shelf, stream to wait in
--       then, if a schedule creates the task: the schedule, the timetable, perhaps the document of its last task
-- ARGV  1  number of tasks       2  channel that tells of changes
--       3  what the caller's clock says (microseconds)
--       then per task: the document, the shelf's name, created (score), due by the caller's clock, or ""
--       last, if a schedule does: its text as read, its text to be, its name, when it is looked at next (score),
--       the last task's document as read, or ""
--
-- Returns an empty list when all are stored. A schedule moves on with its task; if it, or its last task, is not what was
-- read, nothing changes, and the answer is 0. If any of the documents is there already, nothing
-- changes, and the answer lists every document's present text, or false.

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
  return redis.call('MGET', unpack(uids))
end

-- A delay is as long by Redis's clock as it was meant to be, however far the caller's clock is off.
local time = redis.call('TIME')
local ahead = time[1] * 1000000 + time[2] - ARGV[3]

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
    redis.call('XADD', stream, '*', 'uid', uid)
    queued[#queued + 1] = uid
  else
    redis.call('ZADD', KEYS[2], string.format('%.0f', due + ahead), uid)
    scheduled[#scheduled + 1] = uid
  end
end
redis.call('MSET', unpack(texts))
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
