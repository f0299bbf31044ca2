import { UnsupportedOperationError } from '../../errors.js';
import type { Script } from '../scripts/script.js';
import { BEGIN_LAYOUT, CLOSE_SHARD, END_LAYOUT, LOOK_AT_LAYOUTS, OPEN_SHARD } from '../scripts/shard-layouts.js';
import type { CommandArgument } from '../wire/resp-writer.js';
import type { CommandSender } from './command-sender.js';
import type {
  LayoutCommands,
  LayoutDetails,
  ReadLayoutsOptions,
  PendingLayout,
  ShardLayout,
  StreamLayouts,
} from './layouts.js';

/** How many shards a stream has, beside the stream; and the end of a shard, in the shard itself. */
export class RedisLayoutCommands implements LayoutCommands {
  readonly #sender: CommandSender;

  constructor(sender: CommandSender) {
    this.#sender = sender;
  }

  async read(streamKey: string): Promise<LayoutDetails> {
    const key = this.#keyOf(streamKey);
    const fields = (await this.#sender.text(key, ['HMGET', key, 'layouts', 'pending', 'first'])) as Array<
      string | null
    >;
    const [list, pending, given] = fields.map((field) => field ?? '') as [string, string, string];
    return {
      layouts: parseList(list),
      pending: pending === '' ? undefined : parseLayout(pending),
      givenShards: Number(given),
    };
  }

  async look(streamKey: string, { givenShards = 0, timeout }: ReadLayoutsOptions = {}): Promise<StreamLayouts> {
    const key = this.#keyOf(streamKey);
    if (timeout !== undefined) await this.#sender.router.ready(key, timeout);
    return parseLayouts(await this.#run(LOOK_AT_LAYOUTS, key, [givenShards], 'reading the number of shards'));
  }

  async begin(streamKey: string, found: number, shards: number): Promise<StreamLayouts> {
    return parseLayouts(await this.#run(BEGIN_LAYOUT, this.#keyOf(streamKey), [found, shards]));
  }

  async open(shardKey: string): Promise<void> {
    await this.#run(OPEN_SHARD, this.#sender.key(shardKey), []);
  }

  async close(shardKey: string): Promise<void> {
    await this.#run(CLOSE_SHARD, this.#sender.key(shardKey), []);
  }

  async end(streamKey: string, { name }: PendingLayout): Promise<StreamLayouts> {
    return parseLayouts(await this.#run(END_LAYOUT, this.#keyOf(streamKey), [name]));
  }

  #keyOf(streamKey: string): string {
    return this.#sender.sideKey('layout', streamKey);
  }

  async #run(
    script: Script,
    key: string,
    args: readonly CommandArgument[],
    operation = 'setShards()',
  ): Promise<unknown> {
    const scripted = await this.#sender.run(script, key, args);
    if (scripted) return scripted.reply;
    throw new UnsupportedOperationError(operation, 'needs scripts (EVAL, EVALSHA), which are not permitted here');
  }
}

function parseLayouts(reply: unknown): StreamLayouts {
  const [list, pending, now, given] = reply as [string, string, string, string];
  const began = Number(pending.split(':')[2]);
  return {
    layouts: parseList(list),
    pending: pending === '' ? undefined : { name: pending, layout: parseLayout(pending), age: Number(now) - began },
    givenShards: Number(given),
  };
}

function parseList(list: string): ShardLayout[] {
  return list === '' ? [] : list.split(',').map(parseLayout);
}

function parseLayout(text: string): ShardLayout {
  const [first, shards] = text.split(':').map(Number) as [number, number];
  return { first, shards };
}
