import { setTimeout as pause } from 'node:timers/promises';
import { HttpException, HttpStatus, ServiceUnavailableException } from '@nestjs/common';
import type { MessageEvent } from '@nestjs/common';
import { Observable } from 'rxjs';
import type { View } from '../api.js';
import type { ResolvedConsoleOptions } from '../console.options.js';
import type { Live } from './live.js';
import type { News } from './topic.js';

/** The part of a response that tells what becomes of the events. */
export interface EventSink {
  /** It takes nothing until the event `drain`. */
  readonly writableNeedDrain?: boolean;
  once(event: 'drain' | 'close', listener: () => void): unknown;
  off(event: 'drain' | 'close', listener: () => void): unknown;
}

/** Milliseconds between two pings: proxies end connections that are silent for a minute. */
const HEARTBEAT = 20_000;
/** How long a page may take to open its next stream, which begins with the figures of this one, in milliseconds. */
const HANDOVER = 10_000;
/** Milliseconds that responses may take to end when the application closes. */
const LEAVING_LIMIT = 1_000;

/** Event streams at the same time: of all viewers, and of one user. A page has one, and for a moment two. */
const MOST = 1_000;
const MOST_OF_A_USER = 50;

interface Viewer {
  /** Null where the guards of the application tell none. */
  readonly user: string | null;
  readonly leave: () => void;
  /** Resolves when the response has ended, or the viewer has gone. */
  readonly left: Promise<void>;
}

/**
 * The event streams that are open. Each ends after some minutes, so that the guards decide again about the viewer, and all end when the
 * application closes, which would wait for them otherwise.
 */
export class Viewers {
  readonly #live: Live;
  readonly #visit: number;
  readonly #open = new Set<Viewer>();
  #isClosed = false;

  constructor(live: Live, { visit }: Pick<ResolvedConsoleOptions, 'visit'>) {
    this.#live = live;
    this.#visit = visit;
  }

  /** @throws ServiceUnavailableException, HttpException with 429 when too much is looked at for one more viewer of the view */
  requireRoom(view: View, user: string | null): void {
    if (this.#open.size >= MOST) {
      throw new ServiceUnavailableException(`The console has ${MOST} viewers at the same time, and no more`);
    }
    const own = [...this.#open].filter((viewer) => user !== null && viewer.user === user);
    if (own.length >= MOST_OF_A_USER) {
      const message = `A user has ${MOST_OF_A_USER} live pages at the same time, and no more; close some of them`;
      throw new HttpException(message, HttpStatus.TOO_MANY_REQUESTS);
    }
    this.#live.requireRoom(view);
  }

  /**
   * The events of one viewer. While their connection takes nothing, the latest news wait and older ones are dropped, so that a slow
   * viewer costs the memory of one update. @throws HttpException, see {@link requireRoom}
   */
  events(view: View, sink: EventSink, user: string | null): Observable<MessageEvent> {
    this.requireRoom(view, user);
    return new Observable((subscriber) => {
      let waiting: News<unknown> | undefined;
      const flush = (): void => {
        if (waiting === undefined || subscriber.closed) return;
        const event = eventOf(waiting);
        waiting = undefined;
        subscriber.next(event);
      };
      const offer = (news: News<unknown>): void => {
        if (sink.writableNeedDrain && waiting === undefined) sink.once('drain', flush);
        waiting = news;
        if (!sink.writableNeedDrain) flush();
      };
      const leave = (): void => {
        waiting = undefined;
        subscriber.next({ type: 'gone', data: {} });
        subscriber.complete();
      };
      if (this.#isClosed) return leave();
      const left = new Promise<void>((resolve) => sink.once('close', resolve));
      const viewer: Viewer = { user, leave, left };
      this.#open.add(viewer);
      const heartbeat = setInterval(() => !sink.writableNeedDrain && subscriber.next(PING), HEARTBEAT);
      // Those that came at the same time, after a restart, must not all come again at the same time.
      const renewal = this.#visit * (1 - Math.random() / 5);
      const renewing = setTimeout(() => subscriber.next(RENEW), renewal);
      const ending = setTimeout(leave, renewal + Math.min(HANDOVER, this.#visit));
      const unwatch = this.#live.watch(view, offer);
      return () => {
        clearInterval(heartbeat);
        clearTimeout(renewing);
        clearTimeout(ending);
        sink.off('drain', flush);
        this.#open.delete(viewer);
        unwatch();
      };
    });
  }

  /**
   * Resolves when the connections are free: one that becomes free after the HTTP server has begun to close would be waited for until
   * its client gives it up.
   */
  async close(): Promise<void> {
    this.#isClosed = true;
    const leaving = [...this.#open];
    for (const { leave } of leaving) leave();
    const limit = new AbortController();
    const late = pause(LEAVING_LIMIT, undefined, { signal: limit.signal }).catch(() => undefined);
    await Promise.race([Promise.all(leaving.map(({ left }) => left)), late]);
    limit.abort();
    this.#live.close();
  }
}

/** With data, without which browsers do not dispatch an event: pages open a silent feed again. */
const PING: MessageEvent = { type: 'ping', data: {} };
const RENEW: MessageEvent = { type: 'renew', data: {} };

/** At the moment in which it is sent. */
function eventOf(news: News<unknown>): MessageEvent {
  if ('failure' in news) return { type: 'failed', data: news.failure };
  return { type: 'update', data: { ...(news.value as object), now: Date.now() } };
}
