import { Body, Get, HttpCode, Inject, NotFoundException, Post, Query, Req, Res } from '@nestjs/common';
import type { DeadLetterMessage } from 'nestjs-redis-streams';
import type { DeadLetterChanged, DeadLetterRow } from '../api.js';
import { clientOf } from '../client.js';
import { ConsoleContext } from '../console-context.js';
import { BY_ITSELF, IN_A_LIST, headersOf, payloadOf, shortened } from '../messages/contents.js';
import type { Extent } from '../messages/contents.js';
import { RequestValues, isId, refusal } from '../request-values.js';
import { userNameOf } from '../security/user-name.js';
import { deleteDeadLetters, redriveDeadLetters } from './dead-letter-changes.js';
import type { DeadLetterWork } from './dead-letter-changes.js';
import { deadLetterById, selectionOf } from './dead-letter-filter.js';
import { searchDeadLetters } from './dead-letter-search.js';

type Change = (work: DeadLetterWork) => Promise<DeadLetterChanged>;

export class DeadLettersController {
  readonly #context: ConsoleContext;

  constructor(@Inject(ConsoleContext) context: ConsoleContext) {
    this.#context = context;
  }

  @Get('dead-letters')
  async deadLetters(@Query() query: unknown, @Req() request: unknown, @Res() response: unknown): Promise<void> {
    const values = new RequestValues(query);
    const selection = selectionOf(values, this.#context.policy);
    const after = values.text('after');
    if (after !== undefined) checkId('after', after);
    const client = clientOf(request, response);
    const { signal } = client;
    const show = (letter: DeadLetterMessage): DeadLetterRow => this.#row(letter, IN_A_LIST);
    const page = await this.#context.turns.take(client, async () => {
      return searchDeadLetters(await this.#context.manager(), { selection, after, signal, show });
    });
    this.#context.reply(response, page);
  }

  @Get('dead-letter')
  async deadLetter(@Query() query: unknown, @Res() response: unknown): Promise<void> {
    const values = new RequestValues(query);
    const selection = selectionOf(values, this.#context.policy);
    const id = values.requiredText('id');
    checkId('id', id);
    const letter = await deadLetterById(await this.#context.manager(), selection, id);
    if (!letter) {
      throw new NotFoundException(
        `'${selection.deadLetterStream}' has no dead letter ${id} of '${selection.stream}'; it may have been redriven or deleted`,
      );
    }
    this.#context.reply(response, this.#row(letter, BY_ITSELF));
  }

  @Post('dead-letters/redrive')
  @HttpCode(200)
  async redrive(@Req() request: unknown, @Body() body: unknown, @Res() response: unknown): Promise<void> {
    this.#context.reply(response, await this.#change(request, body, 'redrive dead letters', redriveDeadLetters));
  }

  @Post('dead-letters/delete')
  @HttpCode(200)
  async delete(@Req() request: unknown, @Body() body: unknown, @Res() response: unknown): Promise<void> {
    this.#context.reply(response, await this.#change(request, body, 'delete dead letters', deleteDeadLetters));
  }

  async #change(request: unknown, body: unknown, name: string, change: Change): Promise<DeadLetterChanged> {
    const values = new RequestValues(body);
    const { policy, turns, changes } = this.#context;
    const selection = selectionOf(values, policy);
    const ids = values.texts('ids');
    for (const id of ids ?? []) checkId('ids', id);
    const upTo = values.text('upTo');
    if (upTo !== undefined) checkId('upTo', upTo);
    if (upTo !== undefined && ids) throw refusal('upTo', "must not be given beside 'ids'", upTo);
    const dryRun = values.requiredFlag('dryRun');
    const make = async (): Promise<DeadLetterChanged> => {
      return turns.take({ user: userNameOf(request) }, async () =>
        change({ manager: await this.#context.manager(), policy, selection, ids, upTo, dryRun }),
      );
    };
    if (dryRun) return make();
    const { stream, query } = selection;
    const details = { stream, ...query, error: values.text('error'), ids, upTo };
    return changes.record(request, name, details, make);
  }

  #row(letter: DeadLetterMessage, extent: Extent): DeadLetterRow {
    const { id, timestamp, reason, error, origin, deliveryCount, headers, payload } = letter;
    return {
      id,
      at: timestamp.getTime(),
      reason: reason === undefined ? null : shortened(reason, extent),
      error: error
        ? {
            name: shortened(error.name, extent),
            message: shortened(error.message, extent),
            stack: error.stack === undefined ? null : shortened(error.stack, extent),
          }
        : null,
      origin: origin ? { key: origin.key, id: origin.id, group: origin.group, consumer: origin.consumer } : null,
      deliveries: deliveryCount ?? null,
      headers: headersOf(headers, extent),
      payload: payloadOf(payload, extent, this.#context.options.showPayloads),
    };
  }
}

/** @throws BadRequestException */
function checkId(name: string, id: string): void {
  if (!isId(id)) throw refusal(name, "must be the id of an entry, 'ms-seq'", id);
}
