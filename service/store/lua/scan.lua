-- scan: all tasks of the shelves that a filter admits, down to a moment by which about so many have been found. It costs
-- a few looks at each shelf, and little for each task: it is for filters that leave out most of what is found.
--
-- uses admits.lua
-- KEYS  1…  names of shelves, of one partition each
-- ARGV  1, 2  where the search before ended: created (score), UID; "" for none    3  about how many
--       4  the oldest creation time; "" for any    5  how a UID begins
--       6  types    7  queues    8  statuses: each as ":a:b:"; "" for any
--       9…  per partition: what a shelf's name is appended to
--
-- Returns that moment, "" if nothing is older; then, in no order: UID, created (score); and so on.

local ended, uid_before, wanted, oldest, beginning = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
local newest = ended and ARGV[1] or '+inf'

local shelves, top, bottom = {}, nil, nil
for i, names in ipairs(KEYS) do
  for _, name in ipairs(redis.call('SMEMBERS', names)) do
    if admits(name, 6) then
      local key = ARGV[8 + i] .. name
      local last = redis.call('ZREVRANGEBYSCORE', key, newest, oldest ~= '' and oldest or '-inf', 'WITHSCORES', 'LIMIT', 0, 1)
      if #last > 0 then
        shelves[#shelves + 1] = key
        local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
        top = math.max(top or 0, tonumber(last[2]))
        bottom = math.min(bottom or math.huge, tonumber(first[2]))
      end
    end
  end
end
if #shelves == 0 then
  return { '' }
end
bottom = math.max(bottom, tonumber(oldest) or 0)

local function text(score)
  return string.format('%.0f', score)
end

local function count(since)
  local number = 0
  for _, key in ipairs(shelves) do
    number = number + redis.call('ZCOUNT', key, text(since), newest)
  end
  return number
end

-- The moment: not fewer than a half of what is wanted, if that can be, and not more; but all of one moment.
local low, is_over = bottom, count(bottom) <= wanted
if not is_over then
  local few, many = top, bottom
  while few - many > 1 do
    low = math.floor((few + many) / 2)
    local number = count(low)
    if number > wanted then
      many = low
    else
      few = low
      if 2 * number >= wanted then
        break
      end
    end
  end
  low = few
end

local found = { is_over and '' or text(low) }
for _, key in ipairs(shelves) do
  local rows = redis.call('ZREVRANGEBYSCORE', key, newest, text(low), 'WITHSCORES')
  for i = 1, #rows, 2 do
    local uid = rows[i]
    if
      (beginning == '' or string.sub(uid, 1, #beginning) == beginning)
      and (uid < uid_before or tonumber(rows[i + 1]) ~= ended)
    then
      found[#found + 1] = uid
      found[#found + 1] = rows[i + 1]
    end
  end
end
return found
