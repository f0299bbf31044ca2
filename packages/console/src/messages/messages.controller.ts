import { Get, Inject, NotFoundException, Query, Req, Res } from '@nestjs/common';
import { entryId } from 'nestjs-redis-streams';
import type { MessagePage, MessageRow } from '../api.js';
import { clientOf } from '../client.js';
import { ConsoleContext } from '../console-context.js';
import { inTurns } from '../in-turns.js';
import { RequestValues, refusal } from '../request-values.js';
import { BY_ITSELF } from './contents.js';
import { messageFilter } from './message-filter.js';
import { cursorOf, messageRow, searchMessages } from './message-search.js';
import { placesOf } from './places.js';
import { boundOf } from './time-bounds.js';

const WIDTH = 8;

export class MessagesController {
  readonly #context: ConsoleContext;

  constructor(@Inject(ConsoleContext) context: ConsoleContext) {
    this.#context = context;
  }

  @Get('messages')
  async messages(@Query() query: unknown, @Req() request: unknown, @Res() response: unknown): Promise<void> {
    const values = new RequestValues(query);
    const stream = this.#context.policy.require(values.requiredText('stream'));
    const { showPayloads } = this.#context.options;
    const after = values.text('after');
    const cursor = after === undefined ? undefined : cursorOf(after);
    if (after !== undefined && !cursor) throw refusal('after', 'must be the next of a page', after);
    const client = clientOf(request, response);
    const search = {
      from: boundOf(values, 'since') ?? '-',
      to: boundOf(values, 'until') ?? '+',
      newest: values.flag('newest') ?? false,
      after: cursor,
      showPayloads,
      matches: messageFilter(values, showPayloads),
      signal: client.signal,
    };
    const page: MessagePage = await this.#context.turns.take(client, async () => {
      const manager = await this.#context.manager();
      const places = await placesOf(this.#context.source.streams, stream);
      if (places.length === 0) return { messages: [], next: null, searched: 0 };
      return searchMessages(manager, places, search);
    });
    this.#context.reply(response, page);
  }

  @Get('message')
  async message(@Query() query: unknown, @Req() request: unknown, @Res() response: unknown): Promise<void> {
    const values = new RequestValues(query);
    const stream = this.#context.policy.require(values.requiredText('stream'));
    const id = values.requiredText('id');
    if (!entryId.isValid(id)) throw refusal('id', 'must be the id of an entry', id);
    const shard = values.count('shard');
    const row = await this.#context.turns.take(clientOf(request, response), () => this.#find(stream, id, shard));
    if (!row)
      throw new NotFoundException(`The stream '${stream}' has no message ${id}; it may have been trimmed or deleted`);
    this.#context.reply(response, row);
  }

  /** In the shard that is named, else in the first one that has it. */
  async #find(stream: string, id: string, named: number | undefined): Promise<MessageRow | undefined> {
    const manager = await this.#context.manager();
    const { showPayloads } = this.#context.options;
    const places = await placesOf(this.#context.source.streams, stream);
    const asked = named === undefined ? places : places.filter(({ shard }) => shard === named);
    const found = await inTurns(asked, WIDTH, async ({ key, shard }) => {
      const [message] = await manager.range(key, id, id, { count: 1 });
      return message && messageRow(message, shard, BY_ITSELF, showPayloads);
    });
    return found.find((row) => row !== undefined);
  }
}
