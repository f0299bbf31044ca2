import { Get, Inject, Query, Req, Res, Sse } from '@nestjs/common';
import type { MessageEvent } from '@nestjs/common';
import type { Observable } from 'rxjs';
import { VERSION } from '../../package-files.cjs';
import type { Session, View } from '../api.js';
import { responseOfNode } from '../client.js';
import { ConsoleContext } from '../console-context.js';
import { RequestValues, refusal } from '../request-values.js';
import { userNameOf } from '../security/user-name.js';
import { isStreamOrder } from './streams-view.js';
import type { EventSink } from './viewers.js';

export class LiveController {
  readonly #context: ConsoleContext;

  constructor(@Inject(ConsoleContext) context: ConsoleContext) {
    this.#context = context;
  }

  /** With a view, refuses what its stream of events would refuse: a browser does not tell its page why that was. */
  @Get('session')
  session(@Query() query: unknown, @Req() request: unknown, @Res() response: unknown): void {
    const { readOnly, showPayloads } = this.#context.options;
    const user = userNameOf(request);
    const view = new RequestValues(query).text('view');
    if (view !== undefined) this.#context.viewers.requireRoom(this.#viewOf(view), user);
    const session: Session = { version: VERSION, readOnly, showPayloads, user };
    this.#context.reply(response, session);
  }

  /** @throws HttpException before the stream of events begins */
  @Sse('live')
  live(
    @Query() query: unknown,
    @Req() request: unknown,
    @Res({ passthrough: true }) response: unknown,
  ): Observable<MessageEvent> {
    const view = this.#viewOf(new RequestValues(query).requiredText('view'));
    const sink = responseOfNode(response) as EventSink;
    return this.#context.viewers.events(view, sink, userNameOf(request));
  }

  /** @throws BadRequestException, NotFoundException */
  #viewOf(text: string): View {
    const view = viewOf(text);
    if ('stream' in view) this.#context.policy.require(view.stream);
    return view;
  }
}

/** The view that a page asks for, as JSON. @throws BadRequestException */
function viewOf(text: string): View {
  const values = new RequestValues(parsed(text));
  const page = values.requiredText('page');
  switch (page) {
    case 'streams': {
      const sort = values.text('sort') ?? 'name';
      if (!isStreamOrder(sort)) throw refusal('sort', 'must be an order of streams', sort);
      return {
        page,
        search: values.text('search') ?? '',
        sort,
        isDescending: values.flag('isDescending') ?? false,
        offset: values.count('offset') ?? 0,
      };
    }
    case 'stream':
      return { page, stream: values.requiredText('stream') };
    case 'group':
      return { page, stream: values.requiredText('stream'), group: values.requiredText('group') };
    case 'health':
      return { page };
    default:
      throw refusal('page', 'must be streams, stream, group or health', page);
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw refusal('view', 'must be JSON', text);
  }
}
