import { RedisStreamsError, UnsupportedOperationError } from '../../errors.js';
import { NanosecondClock } from '../../shared/clock.js';
import type { LiveRoute } from '../connection/connection-router.js';
import { APPEND_AT } from '../scripts/append-at.js';
import {
  REVOKED,
  appendCall,
  appendOutcomes,
  appendScripts,
  nanosecondCall,
  revokeCall,
} from '../scripts/append-batch.js';
import { DROP_UNTIL } from '../scripts/drop-until.js';
import { outcomeOf, unexpectedReply } from '../wire/append-reply.js';
import type { AppendOutcomes } from '../wire/append-reply.js';
import type { AppendCall } from '../scripts/append-batch.js';
import type { CommandChannel } from '../wire/command-channel.js';
import { ReplyError } from '../wire/resp-reader.js';
import type { AppendRequest, Command } from '../wire/resp-writer.js';
import { conditionalCommands, conditionalOutcome } from './append-conditions.js';
import { FIRST_NANOSECONDS, timeInIds } from './entry-id.js';
import type { TimestampFormat } from './entry-id.js';
import { MAX_REDIRECTIONS, settingsOf } from './command-sender.js';
import type { CommandSender } from './command-sender.js';
import { PayloadLimits } from './payload-limits.js';
import { BatchRevoked, classifyRedisError, replyWord } from './redis-error.js';
import { Replication } from './replication.js';
import type { ReplicaWait } from './replication.js';
import type { ServerClock } from './server-clock.js';
import type { SideKeyKind } from './side-key.js';
import { timestampFormatIn } from './timestamp-format.js';
import type { AppendCommands, AppendConditions, OnceSettings, TrimLimit, WriteBatch } from './stream-commands.js';

/** What the XADD of a server can do. */
interface AppendFeatures {
  /** Ids of the form `<ms>-*` (Redis 7.0). */
  readonly partialIds: boolean;
  /** Trimming by MINID (Redis 6.2). */
  readonly minId: boolean;
}

/** Where a trim begins, by number or by time. */
interface TrimPoint {
  readonly maxLen?: number | undefined;
  /** Milliseconds since the epoch. */
  readonly minId?: string;
}

/** Until a server has answered otherwise, it counts as one that has everything. */
const ALL: AppendFeatures = Object.freeze({ partialIds: true, minId: true });

/** Most entries that one script deletes, so that it does not hold up the server. */
const DROPS_PER_SCRIPT = 1_000;

/** Lifetime of the key that is written so that WAIT has something to wait for, in milliseconds. */
const MARKER_LIFETIME = 60_000;

const ANY_ID = '*';
const PARTIAL_ID = '-*';

const REFUSED_ID = /^ERR Invalid stream ID/;
const REFUSED_ARGUMENTS = /^ERR wrong number of arguments/;

/** What is asked for, and what it needs that the server does not have. */
type Requirement = readonly [what: string, rule: string];

const NEEDS_SCRIPTS: Requirement = [
  "delivery: 'exactly-once'",
  'needs scripts, and with timestamps or minAge Redis 7.0; use at-least-once where there are none',
];
const NEEDS_PARTIAL_IDS: Requirement = ["timestampFormat: 'ns'", 'needs Redis 7.0, and scripts (EVAL, EVALSHA)'];

/**
 * XADD and XTRIM over the writer connection. A batch goes one of four ways: plain XADDs in one write; one script call, when
 * it must not be appended twice; one script call for each entry, with conditions; or plain commands and scripts for an older
 * server. Which of them is decided when the batch is written, and everything that has to be asked for before is asked for by
 * {@link prepare}: the write itself is synchronous.
 */
export class RedisAppendCommands implements AppendCommands {
  readonly #sender: CommandSender;
  readonly #clock: ServerClock;
  readonly #timestampFormat: TimestampFormat;
  /** Undefined where ids have milliseconds. */
  readonly #nanoseconds: NanosecondClock | undefined;
  /** Undefined where a reply of the master confirms. */
  readonly #replication: Replication | undefined;
  #features: AppendFeatures | undefined;
  #probing: Promise<void> | undefined;
  /** Channels over which the scripts have been loaded. */
  readonly #loaded = new WeakSet<CommandChannel>();
  readonly #limits = new PayloadLimits();

  constructor(sender: CommandSender, clock: ServerClock, timestampFormat: TimestampFormat, wait?: ReplicaWait) {
    this.#sender = sender;
    this.#clock = clock;
    this.#timestampFormat = timestampFormat;
    if (wait) this.#replication = new Replication(wait);
    if (timestampFormat === 'ns') this.#nanoseconds = new NanosecondClock(FIRST_NANOSECONDS);
  }

  requireSideKey(kind: SideKeyKind, streamKey: string): void {
    this.#sender.sideKey(kind, streamKey);
  }

  get wasReached(): boolean {
    return this.#sender.router.wasReached;
  }

  laneOf(streamKey: string): string {
    return this.#sender.router.laneOf(this.#sender.key(streamKey));
  }

  canWrite(batch: WriteBatch): boolean {
    const route = this.#sender.router.find(this.#sender.key(batch.streamKey));
    return (
      route !== undefined &&
      this.#knowsServer(batch) &&
      this.#hasScripts(batch, route) &&
      this.#limits.areKnown(batch, route.channel) &&
      (this.#replication?.isKnown(route.channel) ?? true) &&
      this.#knowsTime(batch, route)
    );
  }

  payloadLimit(streamKey: string): number | undefined {
    const route = this.#sender.router.find(this.#sender.key(streamKey));
    return route && this.#limits.of(route.channel);
  }

  async prepare(batch: WriteBatch, timeout: number): Promise<void> {
    const { router } = this.#sender;
    const key = this.#sender.key(batch.streamKey);
    const lane = router.laneOf(key);
    // Until the nodes of a cluster are known all streams share a lane. Its other streams must not wait for this one, whose
    // node may stand still, or whose slot may have no node.
    if (lane === '') await router.reached(timeout);
    if (router.laneOf(key) !== lane) return;
    const route = await router.ready(key, timeout);
    if (!this.#knowsServer(batch)) await this.#probe(key);
    if (!this.#limits.areKnown(batch, route.channel)) await this.#limits.ask(route.channel);
    if (this.#replication && !this.#replication.isKnown(route.channel))
      await this.#askForReplicas(this.#replication, route);
    if (!this.#hasScripts(batch, route)) await this.#loadScripts(route);
    if (!this.#knowsTime(batch, route)) await this.#askForTime(route);
  }

  async write(batch: WriteBatch): Promise<AppendOutcomes> {
    const key = this.#sender.key(batch.streamKey);
    const route = this.#sender.router.find(key);
    if (!route) throw new TypeError(`write() on '${batch.streamKey}' without canWrite()`);
    const written = this.#writeTo(route, key, batch);
    return this.#checked(
      await (this.#replication ? this.#confirm(this.#replication, route, batch, written) : written),
      key,
      route,
    );
  }

  async append(
    streamKey: string,
    requests: readonly AppendRequest[],
    trim: TrimLimit = {},
  ): Promise<ReadonlyArray<string | Error>> {
    const results: Array<string | Error> = [];
    let left = requests;
    for (let attempt = 0; left.length > 0; attempt += 1) {
      const batch = { streamKey, requests: left, trim, wantsIds: true, acceptsMilliseconds: true };
      await this.prepare(batch, this.#sender.timeout);
      const outcomes = this.canWrite(batch) ? ((await this.write(batch)) ?? []) : [];
      const first = outcomes.findIndex(mustRepeat);
      const settled = first === -1 || attempt >= MAX_REDIRECTIONS ? outcomes : outcomes.slice(0, first);
      results.push(...settled);
      left = left.slice(settled.length);
    }
    return results;
  }

  async appendTrimmed(
    streamKey: string,
    request: AppendRequest,
    maxLen: number | false,
  ): Promise<{ outcome: string | Error | undefined; trimmed: number | Error | undefined }> {
    const { features } = this.#sender;
    // The reply to XADD does not tell how many entries its MAXLEN has deleted.
    const isCounted = maxLen !== false && features.has('XTRIM');
    const trim = maxLen === false || isCounted ? {} : { maxLen };
    const [outcome] = await this.append(streamKey, [request], trim);
    if (!isCounted || typeof outcome !== 'string') return { outcome, trimmed: maxLen === false ? 0 : undefined };
    try {
      return { outcome, trimmed: await this.trimMaxLen(streamKey, maxLen) };
    } catch (error) {
      return { outcome, trimmed: features.isMissing('XTRIM', error) ? undefined : (error as Error) };
    }
  }

  async remove(streamKey: string, ids: readonly string[]): Promise<number> {
    const key = this.#sender.key(streamKey);
    return Number(await this.#sender.text(key, ['XDEL', key, ...ids]));
  }

  async expire(streamKey: string, ttl: number): Promise<void> {
    const key = this.#sender.key(streamKey);
    await this.#sender.text(key, ['PEXPIRE', key, ttl]);
  }

  async trimMaxLen(streamKey: string, maxLen: number): Promise<number> {
    const key = this.#sender.key(streamKey);
    return Number(await this.#sender.text(key, ['XTRIM', key, 'MAXLEN', '~', maxLen]));
  }

  async trimMinId(streamKey: string, minId: string): Promise<number> {
    const key = this.#sender.key(streamKey);
    if (!this.#features) await this.#probe(key);
    if ((this.#features ?? ALL).minId) {
      return Number(await this.#sender.text(key, ['XTRIM', key, 'MINID', '~', minId]));
    }
    let dropped = 0;
    for (let page = DROPS_PER_SCRIPT; page === DROPS_PER_SCRIPT; dropped += page) {
      page = Number(await this.#sender.text(key, dropCommand(key, minId)));
    }
    return dropped;
  }

  timestampFormat(streamKey: string): Promise<TimestampFormat> {
    return timestampFormatIn(this.#sender, this.#sender.key(streamKey));
  }

  #knowsServer({ requests, trim }: WriteBatch): boolean {
    if (this.#features) return true;
    return trim.minAge === undefined && !this.#nanoseconds && !hasPartialId(requests);
  }

  #hasScripts({ once }: WriteBatch, { channel }: LiveRoute): boolean {
    return (once === undefined && !this.#nanoseconds) || this.#loaded.has(channel);
  }

  #knowsTime({ trim }: WriteBatch, { channel }: LiveRoute): boolean {
    return trim.minAge === undefined || this.#clock.isCurrent(channel);
  }

  async #askForReplicas(replication: Replication, route: LiveRoute): Promise<void> {
    try {
      await replication.ask(route.channel);
    } catch (error) {
      throw error instanceof RedisStreamsError ? error : this.#sender.failure(error as Error, route);
    }
  }

  /** Everything that is written is written before this returns. */
  #confirm(
    replication: Replication,
    route: LiveRoute,
    { streamKey, requests, conditions }: WriteBatch,
    written: Promise<AppendOutcomes>,
  ): Promise<AppendOutcomes> {
    const { channel } = route;
    if (!conditions) return replication.confirm(channel, written, requests.length);
    // A script that finds its message stored writes nothing, and a connection that has written nothing waits for nothing.
    const marker: Command = ['SET', this.#sender.sideKey('replicas', streamKey), '', 'PX', MARKER_LIFETIME];
    const marked = channel.commands([marker], 'utf8', settingsOf(route));
    return replication.confirm(channel, written, requests.length, marked);
  }

  async #askForTime(route: LiveRoute): Promise<void> {
    try {
      await this.#clock.ask(route.channel);
    } catch (error) {
      throw this.#sender.failure(error as Error, route);
    }
  }

  /** Nothing is trimmed for its age while the time of the server is unknown: what was just confirmed could be deleted. */
  #trimPoint({ maxLen, minAge }: TrimLimit, { channel }: LiveRoute): TrimPoint {
    if (minAge === undefined) return { maxLen };
    const now = this.#clock.now(channel);
    if (now !== undefined) return { minId: timeInIds(Math.max(0, now - minAge), this.#timestampFormat) };
    this.#sender.features.forget('TIME for minAge', 'minAge deletes nothing');
    return {};
  }

  /** Everything that is written is written before this returns. */
  #writeTo(route: LiveRoute, key: string, batch: WriteBatch): Promise<AppendOutcomes> {
    const { requests, wantsIds, once } = batch;
    const { channel } = route;
    const features = this.#features ?? ALL;
    const trim = this.#trimPoint(batch.trim, route);
    const limit = trimArguments(trim, features);
    const isPlain = (features.partialIds || !hasPartialId(requests)) && (features.minId || trim.minId === undefined);
    if (this.#nanoseconds && !features.partialIds) return refused(requests, NEEDS_PARTIAL_IDS);
    if (batch.conditions) return this.#writeConditionally(route, key, trim, batch, batch.conditions);
    if (once) return isPlain ? this.#writeOnce(route, key, limit, batch, once) : refused(requests, NEEDS_SCRIPTS);
    if (this.#nanoseconds) return this.#writeNanoseconds(route, key, limit, batch);
    if (isPlain && batch.isAtomic) return this.#writeAtomically(route, key, limit, requests);
    if (isPlain) return channel.append({ key, limit, requests, wantsIds }, settingsOf(route));
    const commands = requests.map((request) => appendCommand(key, limit, request, features));
    if (trim.minId !== undefined && !features.minId) commands.push(dropCommand(key, trim.minId));
    return channel
      .commands(commands, 'utf8', settingsOf(route))
      .then((replies) => replies.slice(0, requests.length).map(outcomeOf));
  }

  /** Where MULTI is refused, by a proxy or an ACL, the same commands append one by one. */
  async #writeAtomically(
    { channel, isAsking }: LiveRoute,
    key: string,
    limit: ReadonlyArray<string | number>,
    requests: readonly AppendRequest[],
  ): Promise<AppendOutcomes> {
    const appends = requests.map(({ id, fields }): Command => ['XADD', key, ...limit, id, ...fields]);
    // One ASKING counts for the whole transaction.
    const asking: Command[] = isAsking ? [['ASKING']] : [];
    const answers = await channel.commands([...asking, ['MULTI'], ...appends, ['EXEC']], 'utf8');
    const [begun, ...replies] = answers.slice(asking.length);
    const done = replies.pop();
    if (Array.isArray(done)) return done.map(outcomeOf);
    if (begun instanceof ReplyError) return replies.map(outcomeOf);
    const failure = done instanceof Error ? done : unexpectedReply(done);
    return replies.map((queued) => (queued instanceof Error ? queued : failure));
  }

  /** A repetition finds what was done, so neither a transaction nor the memory of a producer is needed. */
  async #writeConditionally(
    route: LiveRoute,
    key: string,
    trim: TrimPoint,
    { streamKey, requests, trim: asked }: WriteBatch,
    conditions: readonly AppendConditions[],
  ): Promise<AppendOutcomes> {
    const features = this.#features ?? ALL;
    const settings = {
      limit: trimArguments(trim, features),
      partialIds: features.partialIds,
      trim: asked,
      nanosecondId: this.#nanosecondIds(false),
    };
    const commands = conditionalCommands(this.#sender, streamKey, requests, conditions, settings);
    if (trim.minId !== undefined && !features.minId) commands.push(dropCommand(key, trim.minId));
    const replies = await route.channel.commands(commands, 'utf8', settingsOf(route));
    return conditions.map((condition, index) => conditionalOutcome(replies[index], condition));
  }

  #writeOnce(
    route: LiveRoute,
    key: string,
    limit: ReadonlyArray<string | number>,
    { streamKey, requests, wantsIds }: WriteBatch,
    once: OnceSettings,
  ): Promise<AppendOutcomes> {
    const memory = this.#sender.sideKey('producer', streamKey, once.producer);
    const { revokesBelow } = once;
    const call =
      revokesBelow === undefined
        ? appendCall({ ...once, key, memory, requests, limit, wantsIds, nanosecondId: this.#nanosecondIds(false) })
        : revokeCall({ ...once, key, memory, revokesBelow });
    return call ? this.#runBatch(route, call, requests, wantsIds) : refused(requests, NEEDS_SCRIPTS);
  }

  #writeNanoseconds(
    route: LiveRoute,
    key: string,
    limit: ReadonlyArray<string | number>,
    { requests, wantsIds, acceptsMilliseconds = false }: WriteBatch,
  ): Promise<AppendOutcomes> {
    const nanosecondId = this.#nanosecondIds(acceptsMilliseconds);
    const call = nanosecondCall({ key, requests, limit, wantsIds, nanosecondId });
    // Too many fields for a script: a dead letter, whose id counts less than that it is stored.
    return call
      ? this.#runBatch(route, call, requests, wantsIds)
      : route.channel.append({ key, limit, requests, wantsIds }, settingsOf(route));
  }

  /** Undefined where ids have milliseconds. */
  #nanosecondIds(acceptsMilliseconds: boolean): ((id: string) => string) | undefined {
    const clock = this.#nanoseconds;
    const present = acceptsMilliseconds ? '~' : '>';
    return clock && ((id) => (id === ANY_ID ? `${present}${clock.now()}` : `=${id}`));
  }

  #runBatch(
    route: LiveRoute,
    call: AppendCall,
    requests: readonly AppendRequest[],
    wantsIds: boolean,
  ): Promise<AppendOutcomes> {
    const command: Command = ['EVALSHA', call.script.sha, call.keys.length, ...call.keys, ...call.args];
    return route.channel.command(command, 'utf8', settingsOf(route)).then(
      (replies) => {
        if (Array.isArray(replies)) return appendOutcomes(replies, requests.length, wantsIds);
        const isRevoked = replies === null;
        const failure = isRevoked ? new BatchRevoked() : unexpectedReply(replies);
        return requests.map(() => failure);
      },
      (error: unknown) => {
        // After SCRIPT FLUSH; the batch is repeated when they are loaded again.
        if (replyWord(error) === 'NOSCRIPT') this.#loaded.delete(route.channel);
        const isRevoked = error instanceof ReplyError && error.message === REVOKED;
        const failure = isRevoked ? new BatchRevoked() : (error as Error);
        return requests.map(() => failure);
      },
    );
  }

  /** Follows redirections, lets each error act on its connection once, and replaces it by the error that the engine knows. */
  #checked(outcomes: AppendOutcomes, key: string, route: LiveRoute): AppendOutcomes {
    if (!outcomes?.some((outcome) => outcome instanceof Error)) return outcomes;
    let isRedirected = false;
    const known = new Map<Error, Error>();
    return outcomes.map((outcome) => {
      if (!(outcome instanceof Error)) return outcome;
      if (classifyRedisError(outcome) === 'moved') {
        // All entries of a batch name the same node.
        isRedirected ||= this.#sender.router.redirected(key, outcome, route);
        return outcome;
      }
      const failure = known.get(outcome) ?? this.#sender.failure(outcome, route);
      known.set(outcome, failure);
      return failure;
    });
  }

  async #probe(key: string): Promise<void> {
    this.#probing ??= this.#askForFeatures(key).finally(() => (this.#probing = undefined));
    return this.#probing;
  }

  /**
   * Asks with two XADD that every server refuses, because a field has no value: a server that does not understand the id or
   * the option refuses that first.
   */
  async #askForFeatures(key: string): Promise<void> {
    const replies = await this.#sender.pipeline(key, [
      ['XADD', key, '1-*', 'field', '', 'no value'],
      ['XADD', key, 'MINID', '~', '1', '*', 'field', '', 'no value'],
    ]);
    const lost = replies.find((reply) => !(reply instanceof ReplyError));
    if (lost !== undefined) throw lost as Error;
    const answers = (replies as ReplyError[]).map(({ message }) => message);
    const isAnswer = answers.every((answer) => REFUSED_ID.test(answer) || REFUSED_ARGUMENTS.test(answer));
    if (!isAnswer) {
      const refusal = (replies as ReplyError[]).find(({ message }) => !REFUSED_ARGUMENTS.test(message)) as ReplyError;
      throw refusal;
    }
    const [partialIds, minId] = answers.map((answer) => !REFUSED_ID.test(answer)) as [boolean, boolean];
    if (!partialIds) this.#sender.features.forget('XADD <ms>-*');
    if (!minId) this.#sender.features.forget('XADD MINID');
    this.#features = { partialIds, minId };
  }

  async #loadScripts(route: LiveRoute): Promise<void> {
    const scripts = appendScripts(this.#nanoseconds !== undefined);
    const commands = scripts.map(({ source }): Command => ['SCRIPT', 'LOAD', source]);
    for (const reply of await route.channel.commands(commands, 'utf8')) {
      if (!(reply instanceof Error)) continue;
      // Not remembered: there is no other way, and permissions may be corrected while the process runs.
      if (['permission', 'unsupported'].includes(classifyRedisError(reply)))
        throw new UnsupportedOperationError(...(this.#nanoseconds ? NEEDS_PARTIAL_IDS : NEEDS_SCRIPTS));
      throw this.#sender.failure(reply, route);
    }
    this.#loaded.add(route.channel);
  }
}

/** It did not run: another node has the stream, or the script is not on the server any more. */
function mustRepeat(outcome: string | Error): boolean {
  return classifyRedisError(outcome) === 'moved' || replyWord(outcome) === 'NOSCRIPT';
}

function hasPartialId(requests: readonly AppendRequest[]): boolean {
  return requests.some(({ id }) => id !== ANY_ID && id.endsWith(PARTIAL_ID));
}

function refused(requests: readonly AppendRequest[], requirement: Requirement): Promise<AppendOutcomes> {
  const error = new UnsupportedOperationError(...requirement);
  return Promise.resolve(requests.map(() => error));
}

function appendCommand(
  key: string,
  limit: ReadonlyArray<string | number>,
  { id, fields }: AppendRequest,
  features: AppendFeatures,
): Command {
  if (features.partialIds || !id.endsWith(PARTIAL_ID)) return ['XADD', key, ...limit, id, ...fields];
  const milliseconds = id.slice(0, -PARTIAL_ID.length);
  return ['EVAL', APPEND_AT.source, 1, key, milliseconds, limit.length, ...limit, ...fields];
}

/** Removes everything before `minId`, which is a time in milliseconds. */
function dropCommand(key: string, minId: string): Command {
  const last = BigInt(minId) === 0n ? '0-0' : String(BigInt(minId) - 1n);
  return ['EVAL', DROP_UNTIL.source, 1, key, last, DROPS_PER_SCRIPT];
}

function trimArguments({ maxLen, minId }: TrimPoint, features: AppendFeatures): Array<string | number> {
  if (maxLen !== undefined) return ['MAXLEN', '~', maxLen];
  return minId === undefined || !features.minId ? [] : ['MINID', '~', minId];
}
