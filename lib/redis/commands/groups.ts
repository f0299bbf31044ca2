import { UnsupportedOperationError } from '../../errors.js';
import type { CommandSender } from './command-sender.js';
import { REMOVE_CONSUMER } from '../scripts/remove-consumer.js';
import { REMOVE_IDLE_CONSUMER } from '../scripts/remove-idle-consumer.js';
import { classifyRedisError } from './redis-error.js';
import { TRIM_ACKNOWLEDGED } from '../scripts/trim-acknowledged.js';
import type {
  GroupCommands,
  GroupConsumerInfo,
  GroupInfo,
  RateGrant,
  TrimStep,
  TrimmedStep,
} from './stream-commands.js';
import { parseConsumers, parseGroups, parsePending, throwFirst } from './replies.js';

/** XGROUP, XINFO, and the names of consumers. */
export class RedisGroupCommands implements GroupCommands {
  readonly #sender: CommandSender;

  constructor(sender: CommandSender) {
    this.#sender = sender;
  }

  async createGroup(streamKey: string, group: string, afterId: string, mkStream: boolean): Promise<boolean> {
    const key = this.#sender.key(streamKey);
    const options = mkStream ? ['MKSTREAM'] : [];
    try {
      await this.#sender.text(key, ['XGROUP', 'CREATE', key, group, afterId, ...options]);
      return true;
    } catch (error) {
      if (classifyRedisError(error) === 'group-exists') return false;
      throw error;
    }
  }

  async groups(streamKey: string): Promise<GroupInfo[]> {
    const key = this.#sender.key(streamKey);
    return parseGroups(await this.#sender.text(key, ['XINFO', 'GROUPS', key]));
  }

  async consumers(streamKey: string, group: string): Promise<GroupConsumerInfo[]> {
    const key = this.#sender.key(streamKey);
    return parseConsumers(await this.#sender.text(key, ['XINFO', 'CONSUMERS', key, group]));
  }

  async setGroupPosition(streamKey: string, group: string, afterId: string): Promise<void> {
    const key = this.#sender.key(streamKey);
    await this.#sender.text(key, ['XGROUP', 'SETID', key, group, afterId]);
  }

  async removeConsumer(streamKey: string, group: string, consumer: string): Promise<number> {
    const scripted = await this.#sender.run(REMOVE_CONSUMER, this.#sender.key(streamKey), [group, consumer]);
    if (scripted) return Number(scripted.reply);
    // Without scripts the consumer could be given an entry between the look and the removal; a name that stays does less harm.
    const key = this.#sender.key(streamKey);
    return parsePending(await this.#sender.text(key, ['XPENDING', key, group, '-', '+', 1, consumer])).length;
  }

  async removeIdleConsumer(streamKey: string, group: string, consumer: string, minIdle: number): Promise<boolean> {
    const scripted = await this.#sender.run(REMOVE_IDLE_CONSUMER, this.#sender.key(streamKey), [
      group,
      consumer,
      minIdle,
    ]);
    return scripted?.reply === 1;
  }

  /** SET … GET in one command came with Redis 6.2. */
  async holdName(
    streamKey: string,
    group: string,
    consumer: string,
    holder: string,
    ttl: number,
  ): Promise<string | undefined> {
    const key = this.#sender.sideKey('name', streamKey, group, consumer);
    const replies = await this.#sender.pipeline(key, [
      ['GET', key],
      ['SET', key, holder, 'PX', ttl],
    ]);
    throwFirst(replies);
    return (replies[0] as string | null) ?? undefined;
  }

  /** Another holder may write between the two commands; it writes again soon. */
  async releaseName(streamKey: string, group: string, consumer: string, holder: string): Promise<void> {
    const key = this.#sender.sideKey('name', streamKey, group, consumer);
    if ((await this.#sender.text(key, ['GET', key])) !== holder) return;
    // DEL would be one more permission to ask for.
    await this.#sender.text(key, ['SET', key, holder, 'PX', 1]);
  }

  checkRate(streamKey: string, group: string): void {
    this.#sender.sideKey('rate', streamKey, group);
  }

  /** Without a script: a count over the limit grants nothing, and does no harm until the span ends. */
  async takeOfRate(
    streamKey: string,
    group: string,
    wanted: number,
    { max, per }: { max: number; per: number },
  ): Promise<RateGrant> {
    const key = this.#sender.sideKey('rate', streamKey, group);
    const replies = await this.#sender.pipeline(key, [
      ['INCRBY', key, wanted],
      ['PTTL', key],
    ]);
    throwFirst(replies);
    const [count, expiry] = replies.map(Number) as [number, number];
    // The first of a span; or its process ended before this line, and the span had no end. One that ends too late was begun before
    // the clock of the server was set back, or with a longer `per`.
    const hasNoEnd = expiry < 0 || expiry > per;
    if (hasNoEnd) await this.#sender.text(key, ['PEXPIRE', key, per]);
    return { granted: Math.max(0, Math.min(wanted, max - (count - wanted))), resetIn: hasNoEnd ? per : expiry };
  }

  async trimAcknowledged(streamKey: string, step: TrimStep): Promise<TrimmedStep> {
    const { deadAfter = '', keepFor = '', limit = '', dryRunFrom } = step;
    const dryRun = dryRunFrom === undefined ? [] : ['dry', dryRunFrom];
    const scripted = await this.#sender.run(TRIM_ACKNOWLEDGED, this.#sender.key(streamKey), [
      deadAfter,
      keepFor,
      limit,
      ...dryRun,
    ]);
    if (!scripted) {
      throw new UnsupportedOperationError(
        'Retention',
        'needs scripts, which are not permitted here: without them a group could be moved back between look and deletion',
      );
    }
    const [trimmed, firstKept, keptFor, next, ...deadGroups] = scripted.reply as [number, ...string[]];
    return {
      trimmed,
      firstKept: firstKept || undefined,
      keptFor: keptFor || undefined,
      next: next || undefined,
      deadGroups,
    };
  }
}
