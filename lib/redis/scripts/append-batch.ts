import { LAST_ID, NANOSECOND_IDS } from './entry-ids.js';
import { script } from './script.js';
import type { Script } from './script.js';
import type { AppendRequest, CommandArgument } from '../wire/resp-writer.js';

/** What the copy of a batch is refused with that is settled or revoked. */
export const REVOKED = 'ERR the batch was revoked';

/**
 * Returns the replies of a batch that was appended before. Its memory is written, so that a WAIT behind the script waits for
 * the replicas to have everything up to here, on a connection that has written nothing else too. PEXPIRE needs no memory.
 */
const REMEMBERED = `
local known = redis.call('HGET', KEYS[2], number)
if known then
  redis.call('PEXPIRE', KEYS[2], ttl)
  local replies = {}
  for kind, text in string.gmatch(known, '(.)([^\\n]*)\\n') do
    local reply = text
    if kind == '#' then reply = tonumber(text) elseif kind == '!' then reply = redis.error_reply(text) end
    replies[#replies + 1] = reply
  end
  return replies
end`;

/*
 * One script call appends a whole batch exactly once: the outcomes are noted beside the stream, and a batch that is repeated
 * gets them again. Every XADD is a call of its own, so that one that is refused does not stop the others.
 *
 * Both scripts return an id or an error for each entry or, when no caller wants ids, only the errors, each behind its
 * position.
 */
const COLLECT = `
local key, add = KEYS[1], redis.pcall
local wanted, replies = ARGV[1] == '1', {}
local function note(index, reply)
  if wanted then
    replies[index] = reply
  elseif type(reply) == 'table' then
    replies[#replies + 1] = index
    replies[#replies + 1] = reply
  end
end
local before = tonumber(ARGV[2])
local limit = {}
for i = 1, before do limit[i] = ARGV[2 + i] end
`;

/** ARGV: whether ids are wanted, how many trim arguments, these, the field's name, values. For entries of one field and no id. */
const VALUES = `${COLLECT}
local first = 4 + before
local field = ARGV[3 + before]
if before == 0 and not wanted then
  for i = first, #ARGV do
    local reply = add('XADD', key, '*', field, ARGV[i])
    if type(reply) == 'table' then note(i - first + 1, reply) end
  end
else
  for i = first, #ARGV do
    local reply
    if before == 0 then
      reply = add('XADD', key, '*', field, ARGV[i])
    else
      reply = add('XADD', key, limit[1], limit[2], limit[3], '*', field, ARGV[i])
    end
    note(i - first + 1, reply)
  end
end`;

/** ARGV: whether ids are wanted, how many trim arguments, these, then for each entry how many arguments it has, and these. */
const entriesBy = (append: string): string => `${COLLECT}
local at, index = 3 + before, 1
while at <= #ARGV do
  local count = tonumber(ARGV[at])
  local args = { 'XADD', key }
  for i = 1, before do args[#args + 1] = limit[i] end
  for i = at + 1, at + count do args[#args + 1] = ARGV[i] end
  ${append}
  at, index = at + count + 1, index + 1
end`;
const ENTRIES = entriesBy('note(index, add(unpack(args)))');
const NANOSECOND_ENTRIES = `${LAST_ID}${NANOSECOND_IDS}${entriesBy(`local id, failure = nanosecondId(ARGV[at + 1])
  local reply = failure
  if id then
    args[3 + before] = id
    reply = add(unpack(args))
    if type(reply) == 'string' then appended(reply) end
  end
  note(index, reply)`)}`;

/**
 * KEYS: the stream, the memory of its producer. ARGV: those of the inner script, then the batch's number, the number of the
 * oldest batch that may be repeated, and the lifetime of the memory in milliseconds. A batch that was appended before is not
 * appended again: the script returns the same replies. Only batches that may still be repeated are remembered. This batch is
 * noted before others are forgotten, because a memory that is empty for a moment is deleted, and a node that gives the slot
 * away may not create it again. Every command that can be refused runs before the entries are appended.
 *
 * A batch older than these is settled or revoked, and is a late copy: it was sent over a connection that stood still, the
 * producer gave the connection up and repeated the batch over another one, and then the network delivered the first copy after
 * all. It is not appended.
 */
const onlyOnce = (append: string): string => `
local ttl, oldest, number = table.remove(ARGV), tonumber(table.remove(ARGV)), table.remove(ARGV)
${REMEMBERED}
local settled = tonumber(redis.call('HGET', KEYS[2], 'oldest') or 0)
if tonumber(number) < settled then return redis.error_reply('${REVOKED}') end
oldest = math.max(oldest, settled)
redis.call('HSET', KEYS[2], number, '', 'oldest', oldest)
for _, other in ipairs(redis.call('HKEYS', KEYS[2])) do
  if other ~= 'oldest' and tonumber(other) < oldest then redis.call('HDEL', KEYS[2], other) end
end
redis.call('PEXPIRE', KEYS[2], ttl)
${append}
local lines = {}
for i, reply in ipairs(replies) do
  local kind = type(reply)
  lines[i] = (kind == 'table' and '!' .. reply.err or kind == 'number' and '#' .. reply or '=' .. reply) .. '\\n'
end
redis.call('HSET', KEYS[2], number, table.concat(lines))`;

const returning = (body: string): string => `${body}\nreturn replies`;
const APPEND_VALUES_ONCE = script('append-values-once', returning(onlyOnce(VALUES)));
const APPEND_ENTRIES_ONCE = script('append-entries-once', returning(onlyOnce(ENTRIES)));
const APPEND_NANOSECONDS = script('append-nanoseconds', returning(NANOSECOND_ENTRIES));
const APPEND_NANOSECONDS_ONCE = script('append-nanoseconds-once', returning(onlyOnce(NANOSECOND_ENTRIES)));

/**
 * KEYS: those of an append, because a memory is only used together with its stream. ARGV: the batch's number, a number above
 * those of all batches that were ever sent, and the lifetime of the memory in milliseconds. A batch that was appended answers
 * as it did. Any other will not be appended from now on, even if a copy of it is still under way, nor will those that were sent
 * behind it, and the script returns nil.
 */
const REVOKE_BATCH = script(
  'revoke-batch',
  `
local number, ttl = ARGV[1], ARGV[3]
${REMEMBERED}
local settled = tonumber(redis.call('HGET', KEYS[2], 'oldest') or 0)
redis.call('HSET', KEYS[2], 'oldest', math.max(tonumber(ARGV[2]), settled))
redis.call('PEXPIRE', KEYS[2], ttl)
return false`,
);

/** The scripts for batches, by whether the ids have nanoseconds. */
export const appendScripts = (hasNanoseconds: boolean): readonly Script[] =>
  hasNanoseconds
    ? [APPEND_NANOSECONDS, APPEND_NANOSECONDS_ONCE, REVOKE_BATCH]
    : [APPEND_VALUES_ONCE, APPEND_ENTRIES_ONCE, REVOKE_BATCH];

/** More names and values in one entry do not fit the stack of a script. */
export const MAX_SCRIPT_FIELDS = 4_000;

export interface AppendCall {
  readonly script: Script;
  readonly keys: readonly string[];
  readonly args: CommandArgument[];
}

export interface ScriptedBatch {
  readonly key: string;
  readonly requests: readonly AppendRequest[];
  /** Arguments of XADD between key and id. */
  readonly limit: ReadonlyArray<string | number>;
  readonly wantsIds: boolean;
  /** Where the ids have nanoseconds: what {@link NANOSECOND_IDS} gets for the id of a request. */
  readonly nanosecondId?: ((id: string) => string) | undefined;
}

export interface OnceBatch extends ScriptedBatch {
  /** The key under which the server remembers the batches of the producer. */
  readonly memory: string;
  readonly batch: number;
  readonly oldest: number;
  readonly remember: number;
}

/** The script call for a batch; undefined when an entry has more fields than a script can pass on. */
export function appendCall(once: OnceBatch): AppendCall | undefined {
  const { key, memory, requests, nanosecondId, batch, oldest, remember } = once;
  const field = requests[0]?.fields[0] as CommandArgument;
  const isUniform =
    !nanosecondId && requests.every(({ id, fields }) => id === '*' && fields.length === 2 && fields[0] === field);
  const args = isUniform ? valueArguments(once, field) : entryArguments(once);
  args?.push(batch, oldest, remember);
  const ofEntries = nanosecondId ? APPEND_NANOSECONDS_ONCE : APPEND_ENTRIES_ONCE;
  return args && { script: isUniform ? APPEND_VALUES_ONCE : ofEntries, keys: [key, memory], args };
}

/** The script call for a batch with nanoseconds that may be appended again; undefined as for {@link appendCall}. */
export function nanosecondCall(batch: ScriptedBatch): AppendCall | undefined {
  const args = entryArguments(batch);
  return args && { script: APPEND_NANOSECONDS, keys: [batch.key], args };
}

function valueArguments({ requests, limit, wantsIds }: ScriptedBatch, field: CommandArgument): CommandArgument[] {
  const args: CommandArgument[] = [wantsIds ? '1' : '0', limit.length, ...limit, field];
  for (const { fields } of requests) args.push(fields[1] as CommandArgument);
  return args;
}

function entryArguments({ requests, limit, wantsIds, nanosecondId }: ScriptedBatch): CommandArgument[] | undefined {
  const args: CommandArgument[] = [wantsIds ? '1' : '0', limit.length, ...limit];
  for (const { id, fields } of requests) {
    if (fields.length > MAX_SCRIPT_FIELDS) return undefined;
    args.push(fields.length + 1, nanosecondId ? nanosecondId(id) : id);
    for (const part of fields) args.push(part);
  }
  return args;
}

/** The script call that revokes a batch, and all that were sent behind it. */
export function revokeCall({
  key,
  memory,
  batch,
  revokesBelow,
  remember,
}: Pick<OnceBatch, 'key' | 'memory' | 'batch' | 'remember'> & { revokesBelow: number }): AppendCall {
  return { script: REVOKE_BATCH, keys: [key, memory], args: [batch, revokesBelow, remember] };
}

/** The outcome of each entry; undefined when all were appended and no caller wants ids. */
export function appendOutcomes(
  replies: readonly unknown[],
  size: number,
  wantsIds: boolean,
): Array<string | Error> | undefined {
  if (wantsIds) return replies as Array<string | Error>;
  if (replies.length === 0) return undefined;
  const outcomes = Array.from({ length: size }, (): string | Error => '');
  for (let at = 0; at + 1 < replies.length; at += 2) outcomes[Number(replies[at]) - 1] = replies[at + 1] as Error;
  return outcomes;
}
