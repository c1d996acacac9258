-- Appends events, each once, and keeps the small indexes beside the stream in the same atomic step.
-- ARGV, for each event: kind, event id, event (JSON, not read here), facts (JSON: the little this script needs to know).
-- Answers for each "new", "changed" (the subject had spoken before; the newest by time stands), "repeat"
-- (said before, or its subject asked to be forgotten since: nothing is written), or the error that is of this event
-- alone. Keys are those of keys.py.
local P, call = 'heed:', redis.call
local kind, event_id, body, facts, seen -- of the event that is at hand

local function present(value) return value ~= nil and value ~= cjson.null end

-- A response's key and its place in lists, without what all of them begin with.
local function short(response_id) return (string.gsub(response_id, '^chatcmpl%-', '')) end

-- What served a response: alias, adapter, arm, experiment. Few differ, so each is kept once, under a number.
local summaries -- looked up for the event at hand; false: not known
local function summary(response_id)
  local found = summaries[response_id]
  if found == nil then
    local data = call('GET', P .. 'response:' .. short(response_id))
    local shape = data and call('HGET', P .. 'shapes', string.match(data, '^%d+'))
    found = shape and cjson.decode(shape) or false
    summaries[response_id] = found
  end
  return found or nil
end

-- A vote that came without the alias of its response gets it here, where the response is known. What the server refuses
-- to read is asked again once the vote is in the stream, and refused there.
local function complete()
  if kind ~= 'vote' or present(facts.alias) then return end
  local read, known = pcall(summary, facts.response_id)
  if read and known then body = string.sub(body, 1, -2) .. ',"alias":' .. cjson.encode(known.alias) .. '}' end
end

local function number_of(shape)
  local number = call('HGET', P .. 'shapes', shape)
  if not number then
    number = tostring(call('HLEN', P .. 'shapes') / 2)
    call('HSET', P .. 'shapes', shape, number, number, shape)
  end
  return number
end

local function bump(experiment, arm, field, by)
  if by ~= 0 then call('HINCRBYFLOAT', P .. 'counts:' .. experiment, arm .. '|' .. field, string.format('%.17g', by)) end
end

-- Adds to a subject's own total of an arm, and keeps the arm's sums of squares: the variance by subject.
local function add(what, known, subject, won, n)
  local prefix = what == 'votes' and {'votes_squared', 'up_squared', 'up_votes'}
    or {'compared_squared', 'wins_squared', 'wins_compared'}
  local key, field = P .. 'tallies:' .. known.experiment, what .. '|' .. known.arm .. '|' .. subject
  local old = call('HGET', key, field)
  local w, m = 0, 0
  if old then w, m = string.match(old, '^(%S+) (%S+)$') end
  w, m = tonumber(w), tonumber(m)
  bump(known.experiment, known.arm, prefix[1], (m + n) ^ 2 - m ^ 2)
  bump(known.experiment, known.arm, prefix[2], (w + won) ^ 2 - w ^ 2)
  bump(known.experiment, known.arm, prefix[3], (w + won) * (m + n) - w * m)
  call('HSET', key, field, (w + won) .. ' ' .. (m + n))
  call('EXPIRE', key, facts.keep)
end

local function score(first, second, won, subject, sign)
  for _, side in ipairs({{first, won}, {second, 1 - won}}) do
    bump(side[1].experiment, side[1].arm, 'wins', sign * side[2])
    bump(side[1].experiment, side[1].arm, 'compared', sign)
    add('pairs', side[1], subject, sign * side[2], sign)
  end
end

-- Of {voice: {time, won}} the newest; of the same time the greater name, whichever came first.
local function newest(voices)
  local name, told = nil, nil
  for one, said in pairs(voices) do
    local time, best = tonumber(said[1]), told and tonumber(told[1])
    if not told or time > best or (time == best and one > name) then name, told = one, said end
  end
  return told and told[2]
end

-- Counts or takes back what one voice says of two responses, each {id, place, summary}, of different arms: `won` is 1,
-- 0.5 or 0 for the first. A comparison and a ranking may name the same two: of all that a subject says of them the
-- newest counts.
local function pair(a, b, won, said, sign)
  local first, second = a[3], b[3]
  if not first or not second or not present(first.experiment) then return end
  if first.experiment ~= second.experiment or first.arm == second.arm then return end
  if b[1] < a[1] then a, b, first, second, won = b, a, second, first, 1 - won end
  local key = P .. 'paired:' .. first.experiment .. ':' .. said.subject
  local field = short(a[1]) .. '|' .. short(b[1])
  local voices = cjson.decode(call('HGET', key, field) or '{}')
  if not present(said.feedback_id) or (sign < 0 and not voices[said.feedback_id]) then -- counted before voices were kept
    return score(first, second, won, said.subject, sign)
  end
  local before = newest(voices)
  voices[said.feedback_id] = sign > 0 and {said.time, won} or nil
  local after = newest(voices)
  if after then call('HSET', key, field, cjson.encode(voices)) else call('HDEL', key, field) end
  call('EXPIRE', key, facts.keep)
  if before == after then return end
  if before then score(first, second, before, said.subject, -1) end
  if after then score(first, second, after, said.subject, 1) end
end

-- Counts (sign 1) or takes back (-1) what was said; `only`: the part of it that touches one response.
local function tally(said, sign, only)
  if present(said.rating) then
    local known = summary(said.response_id)
    if known and present(known.experiment) then
      bump(known.experiment, known.arm, said.rating, sign)
      add('votes', known, said.subject, said.rating == 'up' and sign or 0, sign)
    end
  elseif present(said.ranking) then
    local placed = {}
    for place, group in ipairs(said.ranking) do
      for _, id in ipairs(group) do placed[#placed + 1] = {id, place, summary(id)} end
    end
    for i = 1, #placed do
      for j = i + 1, #placed do
        local a, b = placed[i], placed[j]
        if not only or a[1] == only or b[1] == only then
          pair(a, b, a[2] == b[2] and 0.5 or 1, said, sign)
        end
      end
    end
  end
end

-- The responses of which something counts: of a vote that takes back, and of labels, none.
local function spoken_of()
  if present(facts.rating) then return {facts.response_id} end
  local about = {}
  for _, group in ipairs(present(facts.ranking) and facts.ranking or {}) do
    for _, id in ipairs(group) do about[#about + 1] = id end
  end
  return about
end

-- A vote counts for its response's alias; one whose response is not known yet waits for it in `uncounted`.
local function count(voice)
  local about = spoken_of()
  if #about == 0 then return end
  local known
  for _, id in ipairs(about) do known = known or summary(id) end
  local alias = known and known.alias or facts.alias
  if present(alias) then call('HINCRBY', P .. 'votes', alias, 1) else call('HINCRBY', voice, 'uncounted', 1) end
end

-- Notes for each response that is spoken of and not known yet which voice waits for it.
local function await()
  for _, id in ipairs(spoken_of()) do
    if not summary(id) then
      call('SADD', P .. 'awaited:' .. short(id), facts.feedback_id)
      call('EXPIRE', P .. 'awaited:' .. short(id), facts.life)
    end
  end
end

-- Into the stream, ahead of every other write: where the server refuses a later one, as it does when a key is not of
-- the type it should be, the event comes again and is told apart by its id, instead of being taken for a repeat.
local function stream()
  call('XADD', P .. 'events', '*', 'k', kind, 'e', body)
  call('HINCRBY', P .. 'waiting', 'events', 1)
  if kind == 'vote' or kind == 'comparison' then call('HINCRBY', P .. 'waiting', 'votes', 1) end
end

-- Answers the status.
local function say()
  local voice, history = P .. 'voice:' .. facts.feedback_id, P .. 'history:' .. facts.feedback_id
  local spoken = P .. 'spoken:' .. facts.subject
  local old = call('HMGET', voice, 'said', 'time', 'confirmed', 'facts', 'body')
  local mark = redis.sha1hex(facts.said)
  local time, stood, confirmed = tonumber(facts.time), tonumber(old[2] or -1), tonumber(old[3] or -1)
  if old[1] == mark then
    if time > confirmed then call('HSET', voice, 'confirmed', facts.time) end
    return 'repeat'
  end
  complete()
  -- Late: something newer stands. Said after the standing event and before it was confirmed, it stays out of
  -- the stream, where the newest by time is what counts.
  local late = old[1] and time < confirmed
  if not (late and time >= stood) then stream() end
  if old[1] then -- a first saying is its own history
    if call('EXISTS', history) == 0 then call('RPUSH', history, old[5]) end
    call('RPUSH', history, body)
    call('LTRIM', history, -32, -1)
  end
  call('SADD', spoken, facts.feedback_id)
  if not late then
    if old[1] then tally(cjson.decode(old[4]), -1) end
    call('HSET', voice, 'body', body, 'said', mark, 'time', facts.time, 'confirmed', facts.time, 'facts', facts.tally)
    tally(facts, 1)
    count(voice)
    await()
  end
  for _, key in ipairs({voice, history, spoken}) do call('EXPIRE', key, facts.life) end
  return old[1] and 'changed' or 'new'
end

-- Whether what is said of a report comes before what is known of it: a verdict before none, then the newest by time.
local function stands(old)
  if present(facts.verdict) ~= present(old.verdict) then return present(facts.verdict) end
  return tonumber(facts.time) >= old.time
end

local function expose()
  local experiment, arm = facts.experiment, facts.arm
  bump(experiment, arm, 'exposures', 1)
  bump(experiment, arm, 'errors', facts.code >= 500 and 1 or 0)
  bump(experiment, arm, 'completion_tokens', facts.tokens)
  bump(experiment, arm, 'tokens_squared', facts.tokens ^ 2)
  bump(experiment, arm, 'duration_seconds', facts.duration)
  bump(experiment, arm, 'duration_squared', facts.duration ^ 2)
  call('PFADD', P .. 'exposed:' .. experiment .. ':' .. arm, facts.subject)
  if present(facts.comparison_id) or not present(facts.shares) then return end
  local entered = P .. 'entered:' .. experiment
  local first = call('SADD', entered, facts.subject) == 1
  call('EXPIRE', entered, facts.keep)
  for _, one in ipairs(facts.shares) do
    local name, share, field = one[1], one[2], one[3]
    bump(experiment, name, 'expected_exposures', share)
    if first then
      call('HINCRBY', P .. 'counts:' .. experiment, name .. '|' .. field, name == arm and 1 or 0)
    end
  end
end

local function respond()
  local held = number_of(facts.shape) .. '|' .. facts.time .. '|' .. facts.prompt
  call('SET', P .. 'response:' .. short(facts.response_id), held, 'EX', math.max(facts.life, facts.seen))
  local mine, name = P .. 'subject:' .. facts.subject, short(facts.response_id)
  call('LPUSH', mine, name == facts.response_id and '=' .. name or name)
  call('LTRIM', mine, 0, 999)
  call('EXPIRE', mine, facts.life)
  if present(facts.experiment) then expose() end
  local awaited = P .. 'awaited:' .. short(facts.response_id)
  for _, feedback_id in ipairs(call('SMEMBERS', awaited)) do -- said before the response was known
    local voice = P .. 'voice:' .. feedback_id
    local said, waiting = unpack(call('HMGET', voice, 'facts', 'uncounted'))
    if said then tally(cjson.decode(said), 1, facts.response_id) end
    if waiting then
      call('HINCRBY', P .. 'votes', facts.alias, waiting)
      call('HDEL', voice, 'uncounted')
    end
  end
  call('DEL', awaited)
end

-- Appends the event whose arguments begin there. Answers the status.
local function append(at)
  kind, event_id, body, facts = ARGV[at], ARGV[at + 1], ARGV[at + 2], cjson.decode(ARGV[at + 3])
  seen, summaries = P .. 'seen:' .. event_id, {}
  if kind ~= 'response' and call('EXISTS', seen) == 1 then return 'repeat' end
  local forgotten = call('GET', P .. 'forgotten:' .. facts.mark)
  if forgotten and tonumber(facts.time) <= tonumber(forgotten) then return 'repeat' end
  local status = 'new'
  if kind == 'vote' or kind == 'comparison' or kind == 'label' then
    status = say()
    if status == 'repeat' then return status end
  elseif kind == 'response' then
    if call('EXISTS', P .. 'response:' .. short(facts.response_id)) == 1 then return 'repeat' end
    stream()
    respond()
  elseif kind == 'report' then
    stream()
    local old = call('HGET', P .. 'reports', facts.report_id)
    if not old or stands(cjson.decode(old)) then call('HSET', P .. 'reports', facts.report_id, body) end
    call('SADD', P .. 'spoken:' .. facts.subject, facts.report_id)
    call('EXPIRE', P .. 'spoken:' .. facts.subject, facts.life)
  end
  if kind ~= 'response' then call('SET', seen, '1', 'EX', facts.seen) end -- a response's own key tells
  return status
end

local answers = {}
for at = 1, #ARGV, 4 do
  local done, told = pcall(append, at)
  if not done then
    -- What the server says of a command begins with its code, and comes in a table from Redis, as a text from Valkey.
    local why = type(told) == 'table' and told.err or tostring(told)
    told = {err = string.find(why, '^%u+ ') and why or 'ERR ' .. why}
  end
  answers[#answers + 1] = told
end
return answers
