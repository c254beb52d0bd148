-- A part of scripts that look at limits. A place is a limit's key: "<limit>:<mode>:<digest>"; "<limit>::" is asked for
-- where nobody has set the limit. It admits a task by an entry in its stream, and a claim of that makes it one of the claims.
-- Whom it does not admit waits there, the oldest first, until `serve` finds room. Names begin with `base`; all lie in one slot
-- (docs/store.md, One slot).
--
-- What is known of a queued task stands in `tasks`: the place at which it waits, or "-" if it is admitted; the stream
-- that it waits for or in; all its places. One that was handed back after its start had counted stands in `started`.
-- What is not asked for is not made: most scripts run without.

local function limits_part()
  local SLACK = 500000 -- microseconds: a start that is late by so much does not make the following ones late
  local MOST_SERVED = 100
  local EARLY = 1000 -- microseconds: who was admitted may start so much before it is due, or rounding would hold it up
  local budget = 1000 -- admits, and moves to another place, in this script: more would hold up Redis

  local function clock()
    local time = redis.call('TIME')
    return time[1] * 1000000 + time[2]
  end

  local rules = {} -- by place, as this script has read them

  -- What bounds the place; nil where the limit is not set, or counts by another key. Then: whether it is what to ask for.
  local function read_rule(base, place)
    local limit, mode, digest = string.match(place, '^([^:]*):([^:]*):([^:]*)$')
    local found = redis.call('HMGET', base .. 'limits', limit, limit .. ':' .. digest)
    if not found[1] then
      return nil, mode == ''
    end
    local its_mode, concurrency, interval, burst = string.match(found[1], '^(%S+) (%S+) (%S+) (%S+)')
    if its_mode ~= mode then
      return nil, false
    end
    if found[2] then
      concurrency, interval, burst = string.match(found[2], '^(%S+) (%S+) (%S+)')
    end
    return { concurrency = tonumber(concurrency), interval = tonumber(interval), burst = tonumber(burst) }, true
  end

  local function rule_of(base, place)
    local known = rules[place]
    if not known then
      known = { read_rule(base, place) }
      rules[place] = known
    end
    return known[1], known[2]
  end

  -- The places are what the limits ask for now.
  local function are_current(base, places)
    for place in string.gmatch(places, '%S+') do
      local _, is_current = rule_of(base, place)
      if not is_current then
        return false
      end
    end
    return true
  end

  local function write_next(base, place, next, now)
    next = math.max(next, now - SLACK)
    local left_ms = math.ceil((next - now + SLACK) / 1000) + 1
    redis.call('SET', base .. 'limit:next:' .. place, string.format('%.3f', next), 'PX', left_ms)
  end

  -- After any starts that the rate allows, `next` is not beyond a burst from now. What is comes from a lower rate.
  local function read_next(base, place, rule, now)
    local next = tonumber(redis.call('GET', base .. 'limit:next:' .. place) or 0)
    local latest = now + rule.burst * rule.interval
    if next > latest then
      next = latest
      write_next(base, place, next, now) -- else it would go on with the clock
    end
    return math.max(next, now - SLACK)
  end

  -- How many more a place admits; if none, and if it is known, when it will. A rate goes by GCRA: `next` is when the next
  -- start is due.
  local function room(base, place, rule, now)
    local held = redis.call('PTTL', base .. 'limit:held:' .. place)
    if held > 0 then
      return 0, now + held * 1000
    end
    local admitted = redis.call('SCARD', base .. 'limit:admitted:' .. place)
    local free = math.huge
    if rule.concurrency then
      free = rule.concurrency - admitted - redis.call('SCARD', base .. 'limit:claims:' .. place)
    end
    if rule.interval and free > 0 then
      local next = read_next(base, place, rule, now)
      local starts = math.floor((now - next) / rule.interval + rule.burst) - admitted
      if starts <= 0 and admitted < rule.burst + math.floor(SLACK / rule.interval) then
        return 0, next + (admitted - rule.burst + 1) * rule.interval
      end
      free = math.min(free, starts) -- where all are admitted that may ever be at once, the next claim or cancel goes on
    end
    return free
  end

  -- When a place admits one more; nil if that takes somebody who leaves it.
  local function due(base, place, now)
    local rule = rule_of(base, place)
    if not rule then
      return now
    end
    local free, at = room(base, place, rule, now)
    return free > 0 and now or at
  end

  local function waiting_at(base, place)
    return redis.call('ZCARD', base .. 'limit:waiting:' .. place)
  end

  -- The first of the places that does not admit one more. Whoever comes anew also stands behind those who wait. `served`
  -- is where one has waited: it stands behind those at later places only, else two would send each other's back and forth.
  local function blocking(base, places, now, served)
    local is_behind = not served
    for place in string.gmatch(places, '%S+') do
      local rule = rule_of(base, place)
      if rule then
        if is_behind and waiting_at(base, place) > 0 then
          return place
        end
        if rule.interval and place ~= served and redis.call('SCARD', base .. 'limit:admitted:' .. place) == 0 then
          write_next(base, place, math.max(read_next(base, place, rule, now), now), now) -- the time was quiet
        end
        if room(base, place, rule, now) <= 0 then
          return place
        end
      end
      is_behind = is_behind or place == served
    end
  end

  local function wait_at(base, uid, place, stream, places, created)
    redis.call('ZADD', base .. 'limit:waiting:' .. place, created, uid)
    redis.call('SADD', base .. 'limit:places', place)
    redis.call('HSET', base .. 'limit:tasks', uid, place .. ' ' .. stream .. ' ' .. places)
  end

  local function admit(base, uid, stream, places)
    for place in string.gmatch(places, '%S+') do
      if string.sub(place, -2) ~= '::' then
        redis.call('SADD', base .. 'limit:admitted:' .. place, uid)
      end
    end
    redis.call('HSET', base .. 'limit:tasks', uid, '- ' .. stream .. ' ' .. places)
  end

  local function wake(base, place, at)
    if at then
      redis.call('ZADD', base .. 'limit:wakes', string.format('%.0f', math.ceil(at)), place)
    else
      redis.call('ZREM', base .. 'limit:wakes', place)
    end
  end

  local told = {} -- by base

  -- Runners that listen hear of the first: who fetches it finds the others.
  local function tell(base, uid)
    if not told[base] then
      told[base] = true
      redis.pcall('SPUBLISH', base .. 'changes', 'queued ' .. uid)
    end
  end

  -- The first that waits is admitted, or goes on to wait at another place that holds it up. It leaves this one last: while a
  -- slot is moved, what comes before may be refused.
  local function serve_one(base, place, uid, created, now)
    local record = redis.call('HGET', base .. 'limit:tasks', uid) or ''
    local stream, places = string.match(record, '^%S+ (%S+) (.*)$')
    if not stream or redis.call('EXISTS', uid) == 0 then
      redis.call('HDEL', base .. 'limit:tasks', uid)
      redis.call('ZREM', base .. 'limit:waiting:' .. place, uid)
      return
    end
    local other = blocking(base, places, now, place)
    if other then
      wait_at(base, uid, other, stream, places, created)
      wake(base, other, due(base, other, now)) -- nobody may have waited there before
    else
      redis.call('XADD', stream, '*', 'uid', uid)
      admit(base, uid, stream, places)
      tell(base, uid)
    end
    if other ~= place then
      redis.call('ZREM', base .. 'limit:waiting:' .. place, uid)
    end
  end

  -- Admits those who wait at a place, as far as there is room. What is left goes on when it is due (serve.lua).
  local function serve(base, place, now)
    for _ = 1, MOST_SERVED do
      local first = redis.call('ZRANGE', base .. 'limit:waiting:' .. place, 0, 0, 'WITHSCORES')
      if #first == 0 then
        redis.call('SREM', base .. 'limit:places', place)
        return wake(base, place, nil)
      end
      local at = due(base, place, now)
      if at ~= now then
        return wake(base, place, at)
      end
      if budget == 0 then
        break
      end
      budget = budget - 1
      serve_one(base, place, first[1], first[2], now)
    end
    wake(base, place, now)
  end

  local function serve_all(base, places, now)
    for place in string.gmatch(places, '%S+') do
      if waiting_at(base, place) > 0 then
        serve(base, place, now)
      end
    end
  end

  -- What was queued is so no more, or stands in a lot.
  local function forget(base, uid, now)
    local record = redis.call('HGET', base .. 'limit:tasks', uid)
    if not record then
      return
    end
    local place, _, places = string.match(record, '^(%S+) (%S+) (.*)$')
    redis.call('HDEL', base .. 'limit:tasks', uid)
    redis.call('SREM', base .. 'limit:started', uid)
    if place ~= '-' then
      redis.call('ZREM', base .. 'limit:waiting:' .. place, uid)
      if waiting_at(base, place) == 0 then
        serve(base, place, now) -- its name goes
      end
    else
      for each in string.gmatch(places, '%S+') do
        redis.call('SREM', base .. 'limit:admitted:' .. each, uid)
      end
      serve_all(base, places, now)
    end
  end

  -- A task is queued: it is admitted, and gets an entry, or it waits.
  local function join(base, uid, places, stream, created, now)
    forget(base, uid, now)
    local place = blocking(base, places, now)
    if place then
      wait_at(base, uid, place, stream, places, created)
      serve(base, place, now)
    else
      admit(base, uid, stream, places)
      redis.call('XADD', stream, '*', 'uid', uid)
    end
  end

  -- The next start is due later, and not because of those who are admitted.
  local function is_too_early(base, place, rule, now)
    return read_next(base, place, rule, now) - (rule.burst - 1) * rule.interval > now + EARLY
  end

  -- Also for whom it has admitted: a handler has pushed the key back; or the claims are as many as may be, or the next
  -- start is not due yet, because it has admitted more before its limit was what it is now.
  local function is_shut(base, places, has_counted, now)
    for place in string.gmatch(places, '%S+') do
      local rule = rule_of(base, place)
      local most = rule and rule.concurrency or math.huge
      if
        redis.call('EXISTS', base .. 'limit:held:' .. place) == 1
        or redis.call('SCARD', base .. 'limit:claims:' .. place) >= most
        or (rule and rule.interval and not has_counted and is_too_early(base, place, rule, now))
      then
        return true
      end
    end
  end

  -- A task's entry is to be claimed. Returns whether it may; if not, it waits from now on, and its entry is to go.
  local function enter(base, uid, places, stream, created, now)
    local record = redis.call('HGET', base .. 'limit:tasks', uid)
    local is_admitted = record and record == '- ' .. string.match(record, '^%S+ (%S+) ') .. ' ' .. places
    local has_counted = redis.call('SREM', base .. 'limit:started', uid) == 1
    if not is_admitted or is_shut(base, places, has_counted, now) then
      forget(base, uid, now)
      local place = blocking(base, places, now)
      if place then
        wait_at(base, uid, place, stream, places, created)
        if has_counted then
          redis.call('SADD', base .. 'limit:started', uid)
        end
        serve(base, place, now)
        return false
      end
    end
    redis.call('HDEL', base .. 'limit:tasks', uid)
    for place in string.gmatch(places, '%S+') do
      redis.call('SREM', base .. 'limit:admitted:' .. place, uid)
      local rule = rule_of(base, place)
      if rule then
        redis.call('SADD', base .. 'limit:claims:' .. place, uid)
        if rule.interval and not has_counted then
          write_next(base, place, read_next(base, place, rule, now) + rule.interval, now)
        end
      end
    end
    serve_all(base, places, now)
    return true
  end

  -- A claim ends. `back`: its task is queued again, and stays admitted. `unstarted`: its start does not count.
  local function leave(base, uid, places, back, unstarted, stream, now)
    for place in string.gmatch(places, '%S+') do
      redis.call('SREM', base .. 'limit:claims:' .. place, uid)
      local rule = unstarted and rule_of(base, place)
      if rule and rule.interval then
        write_next(base, place, read_next(base, place, rule, now) - rule.interval, now)
      end
    end
    if back then
      if not unstarted then
        redis.call('SADD', base .. 'limit:started', uid)
      end
      admit(base, uid, stream, places)
    end
    serve_all(base, places, now)
  end

  return {
    clock = clock,
    are_current = are_current,
    wake = wake,
    serve = serve,
    serve_all = serve_all,
    forget = forget,
    join = join,
    enter = enter,
    leave = leave,
  }
end
