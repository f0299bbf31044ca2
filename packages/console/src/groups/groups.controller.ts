import { Body, HttpCode, Inject, Post, Req, Res } from '@nestjs/common';
import { GroupMissingError } from 'nestjs-redis-streams';
import type { StreamManager } from 'nestjs-redis-streams';
import type { GroupChange, GroupMove } from '../api.js';
import { ConsoleContext } from '../console-context.js';
import { RequestValues, isId, refusal } from '../request-values.js';
import { userNameOf } from '../security/user-name.js';
import { moveGroup } from './group-move.js';

/** The last time that an id can have, in milliseconds: in the year 10889. */
const LAST_TIME = 2 ** 48 - 1;

export class GroupsController {
  readonly #context: ConsoleContext;

  constructor(@Inject(ConsoleContext) context: ConsoleContext) {
    this.#context = context;
  }

  @Post('groups/pause')
  @HttpCode(200)
  async pause(@Req() request: unknown, @Body() body: unknown, @Res() response: unknown): Promise<void> {
    const answer = await this.#changeGroup(request, body, 'pause a group', async (manager, { stream, group }) => {
      await manager.pauseGroup(stream, group);
      return { isPaused: true };
    });
    this.#context.reply(response, answer);
  }

  @Post('groups/resume')
  @HttpCode(200)
  async resume(@Req() request: unknown, @Body() body: unknown, @Res() response: unknown): Promise<void> {
    const answer = await this.#changeGroup(request, body, 'resume a group', async (manager, { stream, group }) => {
      await manager.resumeGroup(stream, group);
      return { isPaused: false };
    });
    this.#context.reply(response, answer);
  }

  @Post('groups/position')
  @HttpCode(200)
  async position(@Req() request: unknown, @Body() body: unknown, @Res() response: unknown): Promise<void> {
    const values = new RequestValues(body);
    const given = {
      ...this.#groupOf(values),
      to: positionOf(values.raw('to')),
      dryRun: values.requiredFlag('dryRun'),
    };
    const ends = endsOf(values.raw('ends'));
    if (ends && given.to !== 'end') throw refusal('ends', "must not be given unless 'to' is 'end'", ends);
    const move: GroupMove = { ...given, ...(ends && { ends }) };
    const client = { user: userNameOf(request) };
    const make = async () =>
      this.#context.turns.take(client, async () => moveGroup(await this.#context.manager(), move));
    const { stream, group, to, dryRun } = move;
    const details = { stream, group, to: typeof to === 'number' ? new Date(to) : to };
    const moved = dryRun ? await make() : await this.#context.changes.record(request, 'move a group', details, make);
    this.#context.reply(response, moved);
  }

  async #changeGroup(
    request: unknown,
    body: unknown,
    name: string,
    change: (manager: StreamManager, group: GroupChange) => Promise<object>,
  ): Promise<object> {
    const of = this.#groupOf(new RequestValues(body));
    return this.#context.changes.record(request, name, of, async () => {
      const manager = await this.#context.manager();
      // A pause holds also for a group that does not exist yet, which a mistyped name would be.
      const groups = await manager.groups(of.stream);
      if (!groups.some((group) => group.name === of.group)) throw new GroupMissingError(of.stream, of.group);
      return change(manager, of);
    });
  }

  #groupOf(values: RequestValues): GroupChange {
    const stream = this.#context.policy.require(values.requiredText('stream'));
    return { stream, group: values.requiredText('group') };
  }
}

/** @throws BadRequestException */
function endsOf(ends: unknown): GroupMove['ends'] {
  if (ends === undefined) return undefined;
  const isObject = typeof ends === 'object' && ends !== null && !Array.isArray(ends);
  const ids = isObject ? Object.values(ends) : [];
  if (ids.length === 0 || !ids.every((id) => typeof id === 'string' && isId(id))) {
    throw refusal('ends', 'must be an object of ids by key, as a dry run answers them', ends);
  }
  return ends as GroupMove['ends'];
}

/** @throws BadRequestException */
function positionOf(to: unknown): GroupMove['to'] {
  if (to === 'beginning' || to === 'end') return to;
  if (typeof to === 'number' && Number.isSafeInteger(to) && to >= 0 && to <= LAST_TIME) return to;
  throw refusal('to', "must be a time in milliseconds, 'beginning' or 'end'", to);
}
