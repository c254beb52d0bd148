-- A part of scripts that look at pauses: whether this one is in force. It begins with when it ends, by Redis's clock, if it
-- ends by itself. False where there is none.

local function is_in_force(pause)
  local ends = pause and string.match(pause, '^%d+')
  if ends then
    local time = redis.call('TIME')
    return time[1] * 1000000 + time[2] < tonumber(ends)
  end
  return pause
end
