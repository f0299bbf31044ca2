import { Body, Get, HttpCode, Inject, Post, Query, Req, Res } from '@nestjs/common';
import type { DelayedMessage, StreamManager } from 'nestjs-redis-streams';
import { MESSAGES_ON_A_PAGE } from '../api.js';
import type { DelayedPage, DelayedRow } from '../api.js';
import { clientOf } from '../client.js';
import { ConsoleContext } from '../console-context.js';
import { IN_A_LIST, headersOf, payloadOf } from '../messages/contents.js';
import { merged } from '../messages/merged.js';
import { placesBeside } from '../messages/places.js';
import { RequestValues, refusal } from '../request-values.js';

/** Redis reads a page in one step, payloads included. */
const PAGE = 10;

/** `<token>@<time>`, as `StreamManager.delayed()` makes them. */
const ID = /^[^@\s]+@\d{1,16}$/;

export class DelayedController {
  readonly #context: ConsoleContext;

  constructor(@Inject(ConsoleContext) context: ConsoleContext) {
    this.#context = context;
  }

  @Get('delayed')
  async delayed(@Query() query: unknown, @Req() request: unknown, @Res() response: unknown): Promise<void> {
    const values = new RequestValues(query);
    const stream = this.#context.policy.require(values.requiredText('stream'));
    const after = values.text('after');
    if (after !== undefined && !ID.test(after)) throw refusal('after', 'must be the next of a page', after);
    const client = clientOf(request, response);
    this.#context.reply(response, await this.#context.turns.take(client, () => this.#page(stream, after)));
  }

  @Post('delayed/cancel')
  @HttpCode(200)
  async cancel(@Req() request: unknown, @Body() body: unknown, @Res() response: unknown): Promise<void> {
    const values = new RequestValues(body);
    const stream = this.#context.policy.require(values.requiredText('stream'));
    const [shard, id] = [values.count('shard') ?? 0, values.requiredText('id')];
    const details = { stream, shard, id };
    const answer = await this.#context.changes.record(request, 'cancel a delayed message', details, async () => {
      const manager = await this.#context.manager();
      // Fails while a node is away: the message may wait there.
      const places = await placesBeside(manager, stream);
      // A stream may have a shard 0 beside its own key, which counts as 0 too.
      for (const place of places) {
        if (place.shard === shard && (await manager.cancelDelayed(place.key, id))) return { cancelled: true };
      }
      return { cancelled: false };
    });
    this.#context.reply(response, answer);
  }

  async #page(stream: string, after: string | undefined): Promise<DelayedPage> {
    const manager = await this.#context.manager();
    const places = await placesBeside(this.#context.source.streams, stream);
    const sources = places.map(({ key }) => delayedOf(manager, key, after));
    const delayed: DelayedRow[] = [];
    for await (const { index, item } of merged(sources, compare)) {
      if (delayed.length === MESSAGES_ON_A_PAGE) return { delayed, next: delayed.at(-1)?.id ?? null };
      delayed.push(this.#row(item, places[index]?.shard ?? 0));
    }
    return { delayed, next: null };
  }

  #row({ id, deliverAt, headers, payload }: DelayedMessage, shard: number): DelayedRow {
    return {
      id,
      shard,
      deliverAt: deliverAt.getTime(),
      headers: headersOf(headers, IN_A_LIST),
      payload: payloadOf(payload, IN_A_LIST, this.#context.options.showPayloads),
    };
  }
}

/** Of one key, those that are due first at the beginning. A page is shorter also where a message was moved since. */
async function* delayedOf(
  manager: StreamManager,
  key: string,
  first: string | undefined,
): AsyncGenerator<DelayedMessage> {
  for (let after = first; ;) {
    const page = await manager.delayed(key, { count: PAGE, ...(after !== undefined && { after }) });
    yield* page;
    after = page.at(-1)?.id;
    if (after === undefined) return;
  }
}

/** As Redis sorts them: by time, then by token. */
function compare(one: DelayedMessage, other: DelayedMessage): number {
  const difference = one.deliverAt.getTime() - other.deliverAt.getTime();
  return difference === 0 ? (one.id < other.id ? -1 : Number(one.id > other.id)) : difference;
}
