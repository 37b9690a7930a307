"""The Lua scripts: every decision about who leads is one of these, so it is one atomic step.

What this does not guarantee: that a step survives. A primary that fails over before it has
replicated, or restarts without having synced, forgets it.

Redis runs one script at a time and nothing between its commands
(https://redis.io/docs/latest/develop/interact/programmability/eval-intro/). It does not roll back,
so in each script the command that can fail (wrong type, out of memory, read-only) comes before
those that change anything.

Keys, all in the hash slot of the election's own:

- ``<election>``: the lock, ``<id>:<32 hex>`` with a time to live
- ``electctl:{tag}:term:<election>``: hash of the latest term (holder, since, ttl, evict, seen: when
  it was renewed last) and token
- ``electctl:{tag}:waiting:<election>``: sorted set, ``<16 digits>:<id>:<32 hex>`` → until when (ms)
  that waiter counts as alive; the digits say when it entered (µs)
- ``electctl:{tag}:checkpoint:<election>``: hash, ``v:<slot>`` value, ``g:<slot>`` grant,
  ``s:<slot>`` sequence

Channels (these are global to a server, so they carry the database's number):
``electctl:<db>:{tag}:wake:<32 hex>`` of one waiter, ``electctl:<db>:{tag}:changes:<election>``.

Who waits, sleeps until it is told something on its own channel: ``free`` (take it), ``standby MS``
(take it in MS unless you hear more: those before you may be dead), ``rank R MS`` (somebody leads,
you are number R, look again in MS). So a release makes one waiter act. Two more things keep a lock
from lying idle: a message that reaches nobody goes to the next waiter in the same step, and each
looks by itself whether the lock has run out, by one cheap command: the first eight as soon as it
has, one after the other, the rest later and later (:func:`glance_in`). What renews a place in the
queue costs more and is done more rarely.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

#: What separates the id from the nonce, and the nonce: ":" and 32 hex digits.
NONCE_DIGITS = 32
#: Milliseconds after which the second waiter tries, if the first did not take a free lock; the
#: third after twice that, and so on.
STANDBY_MS = 100
#: How many waiters are told of a change, and look as soon as the lock has run out.
FRONT = 8
#: How many of them renew their place whenever they look.
LOOKERS = 2
#: Milliseconds from one of these looks to the next.
STAGGER_MS = 50
#: By what part of a TTL each waiter behind the front looks later than the one before it.
TAIL = 1 / 4


def glance_in(rank: int, left: float, ttl: float) -> float:
    """Seconds until waiter ``rank`` looks whether a lock with ``left`` seconds has run out.

    With 100 waiters and a TTL of 10 s these add up to two commands a second.
    """
    if left < 0:  # a foreign tool's, without an end
        left = ttl
    if rank < FRONT:
        return left + rank * STAGGER_MS / 1000
    return left + ttl * TAIL * (rank - FRONT + 1)


#: The greatest token of any counter that was swept from this database. In a cluster each slot has
#: one of its own (``Keys.floor``), and this is not declared to the script that reads it: there it
#: may lie on another node.
FLOOR = "electctl:{swept}:tokens"


@dataclass(frozen=True, slots=True)
class Script:
    """A script and its digest."""

    text: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "sha", digest)


_CLOCK = """
local function clock()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000), t[1] .. string.format('%06d', t[2])
end
"""

_WAITERS = (
    """
local lock, term, waiting = KEYS[1], KEYS[2], KEYS[3]
local channels = ARGV[1]

local function publish(channel, message)
  local n = redis.pcall('PUBLISH', channels .. channel, message)
  return type(n) == 'number' and n or -1   -- not permitted: say nothing of who listens
end

local function changed(message)
  publish('changes:' .. lock, message)
end

-- The live waiters, the longest waiting first.
local function waiters(now)
  redis.call('ZREMRANGEBYSCORE', waiting, '-inf', now)
  local flat = redis.call('ZRANGE', waiting, 0, -1, 'WITHSCORES')
  local found = {}
  for i = 1, #flat, 2 do
    found[#found + 1] = {member = flat[i], till = tonumber(flat[i + 1])}
  end
  table.sort(found, function(a, b) return a.member < b.member end)
  return found
end

-- Milliseconds until one of the first waiters looks whether a lock has run out.
local function front_in(rank, left)
  return left + (rank == 0 and 5 or rank * """
    + str(STAGGER_MS)
    + """)
end

-- Milliseconds until a waiter renews its place. With 100 waiters and a TTL of 10 s these add up to
-- half a script a second.
local function look_in(rank, left, ttl)
  if left < 0 then left = ttl end
  if rank < """
    + str(LOOKERS)
    + """ then return front_in(rank, left) end
  return left + ttl * math.min(2 ^ (rank - 1), 64)
end

-- Tell waiters in order, messages[1] to the first that listens, and so on.
local function tell(found, messages)
  local n = 1
  for _, waiter in ipairs(found) do
    if n > #messages then return end
    if publish('wake:' .. string.sub(waiter.member, -32), messages[n]) == 0 then
      redis.call('ZREM', waiting, waiter.member)
    else
      n = n + 1
    end
  end
end

-- Take our own entry out of the queue, also one that we never heard of.
local function leave(value)
  for _, member in ipairs(redis.call('ZRANGE', waiting, 0, -1)) do
    if string.sub(member, 18) == value then redis.call('ZREM', waiting, member) end
  end
end

local front = """
    + str(FRONT)
    + """

local function wake()
  local messages = {'free'}
  for rank = 1, front - 1 do messages[rank + 1] = 'standby ' .. rank * """
    + str(STANDBY_MS)
    + """ end
  tell(waiters((clock())), messages)
end
"""
)

#: KEYS: of the queue, and the floor of the slot.
#: ARGV: channels, value, ttl in ms, stamp ("" do not wait, "0" enter the queue, or the own stamp).
#: Returns {1, token}, or {0, holder, its ttl, look again in ms, rank, stamp, rival, rival's till}.
ACQUIRE = Script(
    _CLOCK
    + _WAITERS
    + """
local value, ttl, stamp = ARGV[2], tonumber(ARGV[3]), ARGV[4]
local held = redis.call('GET', lock)

if held and held ~= value then
  local left = redis.call('PTTL', lock)
  if stamp == '' then return {0, held, left} end
  local now, fresh = clock()
  local found = waiters(now)
  if stamp == '0' then
    stamp = fresh
    for _, waiter in ipairs(found) do   -- an earlier request of ours, whose answer was lost
      if string.sub(waiter.member, 18) == value then stamp = string.sub(waiter.member, 1, 16) end
    end
  end
  local me, id = stamp .. ':' .. value, string.sub(value, 1, -34)
  local rank, rival, till, last = 0, false, 0, 0
  for _, waiter in ipairs(found) do
    if waiter.member < me then
      rank = rank + 1
      if string.sub(waiter.member, 18, -34) == id then
        rival, till = waiter.member, waiter.till
      end
    end
    if waiter.till > last then last = waiter.till end
  end
  local look = look_in(rank, left, ttl)
  -- Word of one or two new leaders can put off the look; only the waiter itself extends its time,
  -- so that this is a sign of life.
  local mine = now + look + 3 * ttl
  redis.call('ZADD', waiting, mine, me)
  redis.call('PEXPIRE', waiting, math.max(last, mine) - now)
  return {0, held, left, look, rank, stamp, rival, till}
end

if held then   -- an earlier request of ours, whose answer was lost
  redis.call('PEXPIRE', lock, ttl)
  local seen = redis.call('HMGET', term, 'holder', 'token')
  if seen[1] == value then return {1, tonumber(seen[2])} end
end

local now = clock()
if not redis.call('HGET', term, 'token') then
  -- A new name, or one whose counter was swept: start above all that were swept.
  local floor = math.max(
    tonumber(redis.call('GET', KEYS[4])) or 0,
    tonumber(redis.pcall('GET', '"""
    + FLOOR
    + """')) or 0)
  if floor > 0 then redis.call('HSET', term, 'token', floor) end
end
local token = redis.call('HINCRBY', term, 'token', 1)
redis.call('SET', lock, value, 'PX', ttl)
redis.call('HSET', term, 'holder', value, 'since', now, 'ttl', ttl, 'evict', '')
leave(value)
changed('held ' .. token .. ' ' .. ttl .. ' ' .. now .. ' ' .. value)
local messages = {}
for rank = 0, front - 1 do messages[rank + 1] = 'rank ' .. rank .. ' ' .. front_in(rank, ttl) end
tell(waiters(now), messages)
return {1, token}
"""
)

#: ARGV: value, ttl in ms. Returns nil if the lock is not ours, else whether we are asked to stop.
RENEW = Script(
    _CLOCK
    + """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return false end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.pcall('HSET', KEYS[2], 'seen', (clock()))   -- not vital, and a full memory refuses it
return redis.call('HGET', KEYS[2], 'evict') == ARGV[1] and 1 or 0
"""
)

#: ARGV: channels, value. Leaves the queue, and frees the lock only if it is ours.
RELEASE = Script(
    _CLOCK
    + _WAITERS
    + """
local held = redis.call('GET', lock)
leave(ARGV[2])
if held == ARGV[2] then
  redis.call('DEL', lock)
  changed('free')
  held = false
end
-- Also when it was free before: the word that it is may have been said to us alone.
if not held then wake() end
return 1
"""
)

#: ARGV: channels, value that was seen. Returns 1 if that very term was ended.
DEPOSE = Script(
    _CLOCK
    + _WAITERS
    + """
if redis.call('GET', lock) ~= ARGV[2] then return 0 end
redis.call('DEL', lock)
changed('free')
wake()
return 1
"""
)

#: ARGV: value that was seen. Marks that very term.
ASK_TO_STOP = Script("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[2], 'evict', ARGV[1])
return 1
""")

#: ARGV: value, slot, data, seq. Returns 0 if the lock is not ours.
CHECKPOINT = Script("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local seen = redis.call('HMGET', KEYS[2], 'g:' .. ARGV[2], 's:' .. ARGV[2])
if seen[1] == ARGV[1] and tonumber(seen[2]) >= tonumber(ARGV[4]) then return 1 end
redis.call('HSET', KEYS[2], 'v:' .. ARGV[2], ARGV[3], 'g:' .. ARGV[2], ARGV[1],
           's:' .. ARGV[2], ARGV[4])
return 1
""")

#: Returns {holder, its ttl in ms, what the term hash says of it, waiting members}.
_LOOK = (
    _CLOCK
    + """
local held = redis.call('GET', KEYS[1])
local seen = redis.call('HMGET', KEYS[2], 'holder', 'token', 'since', 'ttl')
local now = clock()
local flat = redis.call('ZRANGEBYSCORE', KEYS[3], now, '+inf')
table.sort(flat)
local answer = {held, redis.call('PTTL', KEYS[1]), seen[1], seen[2], seen[3], seen[4], flat}
"""
)
LOOK = Script(_LOOK + "return answer")

#: ARGV: channel. The same, published, so that it stands in order among the changes.
LOOK_ALOUD = Script(_LOOK + "return redis.call('PUBLISH', ARGV[1], cjson.encode(answer))")

#: KEYS: of the queue, checkpoint. Returns {free, when it was used last in ms, keys that there are}.
LEFT = Script(
    _CLOCK
    + """
local now = clock()
local free = redis.call('EXISTS', KEYS[1]) == 0 and redis.call('ZCOUNT', KEYS[3], now, '+inf') == 0
local seen = redis.call('HMGET', KEYS[2], 'since', 'seen', 'ttl')
local last = math.max(tonumber(seen[1] or 0), tonumber(seen[2] or 0)) + tonumber(seen[3] or 0)
return {free and 1 or 0, last, redis.call('EXISTS', KEYS[2]), redis.call('EXISTS', KEYS[4])}
"""
)

#: KEYS: of the queue, checkpoint, and the floor. ARGV: when it was used last, as seen.
SWEEP = Script(
    _CLOCK
    + """
local now = clock()
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
if redis.call('ZCOUNT', KEYS[3], now, '+inf') > 0 then return 0 end
local seen = redis.call('HMGET', KEYS[2], 'since', 'seen', 'ttl', 'token')
local last = math.max(tonumber(seen[1] or 0), tonumber(seen[2] or 0)) + tonumber(seen[3] or 0)
if last ~= tonumber(ARGV[1]) then return 0 end
local token, floor = tonumber(seen[4] or 0), tonumber(redis.call('GET', KEYS[5]) or 0)
if token > floor then redis.call('SET', KEYS[5], token) end
redis.call('DEL', KEYS[2], KEYS[3], KEYS[4])
return 1
"""
)
