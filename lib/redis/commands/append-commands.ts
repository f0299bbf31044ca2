import { AppendBatch } from '../wire/append-batch.js';
import { AppendEncoder } from '../wire/append-encoder.js';
import { APPEND_SCRIPTS, appendCall, appendOutcomes } from '../scripts/append-scripts.js';
import { APPEND_AT, DROP_UNTIL, probeAppendFeatures } from './append-features.js';
import type { AppendFeatures } from './append-features.js';
import { UnsupportedOperationError } from '../../errors.js';
import type { CommandArgument, CommandSender, PipelinedCommand } from './command-sender.js';
import type { AppendCommands, AppendOutcomes, AppendRequest, AppendSettings, TrimLimit } from './stream-commands.js';

/** Until a server has said otherwise it is taken for one that has everything. */
const ALL: AppendFeatures = Object.freeze({ partialIds: true, minId: true });

/** The most entries that one script deletes, so that it does not hold up the server. */
const DROPS_PER_SCRIPT = 1_000;

const PARTIAL_ID = '-*';

const NEEDS_SCRIPTS = 'needs scripts, and with timestamps or minAge Redis 7.0; use at-least-once where there are none';

/**
 * XADD and XTRIM over the writer connection. A batch is one command where we read its replies ourselves; one script where we
 * do not, or where it must not be appended twice; a pipeline for a server that lacks scripts, or something else.
 */
export class RedisAppendCommands implements AppendCommands {
  readonly #sender: CommandSender;
  readonly #encoder = new AppendEncoder();
  #features: AppendFeatures | undefined;
  #probing: Promise<AppendFeatures> | undefined;

  constructor(sender: CommandSender) {
    this.#sender = sender;
  }

  async append(
    streamKey: string,
    requests: readonly AppendRequest[],
    trim: TrimLimit,
    settings: AppendSettings = {},
  ): Promise<AppendOutcomes> {
    const { patience = this.#sender.timeout, wantsIds = true, once } = settings;
    const key = this.#sender.key(streamKey);
    const asksForMore = trim.minId !== undefined || requests.some(({ id }) => id.endsWith(PARTIAL_ID));
    // A batch that needs nothing new must still not overtake one that waits for the answer.
    const features = asksForMore ? await this.#featuresFor(key, patience) : ((await this.#probing) ?? ALL);
    const limit = trimArguments(trim, features);
    const isPlain = features.partialIds && (trim.minId === undefined || features.minId);
    // Whatever way a batch goes from here, it is as long as that of the others on its connection, or one would overtake another.
    const canDecode = await this.#sender.canDecode(patience);
    if (canDecode && isPlain && !once) return this.#appendBatch(key, limit, requests, wantsIds);
    const canScript = (!canDecode || once) && (await this.#sender.load(APPEND_SCRIPTS, patience));
    const memory = once && this.#sender.besideKey(key, `producer:${once.producer}`);
    const call = canScript && isPlain ? appendCall(key, memory, requests, limit, settings) : undefined;
    if (call) {
      const replies = await this.#sender.runLoaded(call.script, call.keys, call.args, this.#encoder);
      return appendOutcomes(replies, requests.length, wantsIds);
    }
    if (once) throw new UnsupportedOperationError("delivery: 'exactly-once'", NEEDS_SCRIPTS);
    const commands = requests.map((request) => appendCommand(key, limit, request, features));
    if (trim.minId !== undefined && !features.minId) commands.push(dropCommand(key, trim.minId));
    const replies = await this.#sender.pipeline(commands, 'utf8', patience);
    return replies.slice(0, requests.length) as Array<string | Error>;
  }

  async remove(streamKey: string, ids: readonly string[]): Promise<void> {
    await this.#sender.text('xdel', [this.#sender.key(streamKey), ...ids]);
  }

  async expire(streamKey: string, ttl: number): Promise<void> {
    await this.#sender.text('pexpire', [this.#sender.key(streamKey), ttl]);
  }

  async trimMaxLen(streamKey: string, maxLen: number): Promise<number> {
    return Number(await this.#sender.text('xtrim', [this.#sender.key(streamKey), 'MAXLEN', '~', maxLen]));
  }

  async trimMinId(streamKey: string, minId: string): Promise<number> {
    const key = this.#sender.key(streamKey);
    if ((await this.#featuresFor(key)).minId) {
      return Number(await this.#sender.text('xtrim', [key, 'MINID', '~', minId]));
    }
    let dropped = 0;
    for (let page = DROPS_PER_SCRIPT; page === DROPS_PER_SCRIPT; dropped += page) {
      const [reply] = await this.#sender.pipeline([dropCommand(key, minId)]);
      if (reply instanceof Error) throw reply;
      page = Number(reply);
    }
    return dropped;
  }

  async #appendBatch(
    key: string,
    limit: ReadonlyArray<string | number>,
    requests: readonly AppendRequest[],
    wantsIds: boolean,
  ): Promise<AppendOutcomes> {
    const bytes = this.#encoder.encode(key, limit, requests);
    const outcomes = await this.#sender.decoded(new AppendBatch(key, bytes, requests.length, wantsIds));
    // Not after a failure: the socket may still hold bytes that it has not written.
    this.#encoder.release(bytes);
    return outcomes;
  }

  async #featuresFor(key: string, patience?: number): Promise<AppendFeatures> {
    if (this.#features) return this.#features;
    this.#probing ??= this.#probe(key, patience);
    return this.#probing;
  }

  async #probe(key: string, patience?: number): Promise<AppendFeatures> {
    try {
      this.#features = await probeAppendFeatures(this.#sender, key, patience);
      return this.#features ?? ALL;
    } finally {
      this.#probing = undefined;
    }
  }
}

function appendCommand(
  key: string,
  limit: readonly CommandArgument[],
  { id, fields }: AppendRequest,
  features: AppendFeatures,
): PipelinedCommand {
  if (features.partialIds || !id.endsWith(PARTIAL_ID)) return ['xadd', key, ...limit, id, ...fields];
  const milliseconds = id.slice(0, -PARTIAL_ID.length);
  return ['eval', APPEND_AT.source, 1, key, milliseconds, limit.length, ...limit, ...fields];
}

/** Everything before `minId`, which is a time in milliseconds. */
function dropCommand(key: string, minId: string): PipelinedCommand {
  const last = BigInt(minId) === 0n ? '0-0' : String(BigInt(minId) - 1n);
  return ['eval', DROP_UNTIL.source, 1, key, last, DROPS_PER_SCRIPT];
}

function trimArguments({ maxLen, minId }: TrimLimit, features: AppendFeatures): Array<string | number> {
  if (maxLen !== undefined) return ['MAXLEN', '~', maxLen];
  return minId === undefined || !features.minId ? [] : ['MINID', '~', minId];
}
