import { useEffect, useRef, useState } from 'preact/hooks';

import type { Failure, Sent, Updates, View } from '../../src/api.js';
import { get, RequestError } from './client.js';
import { noteUpdate, forgetUpdates } from './freshness.js';
import { base } from './router.js';
import { Store } from './store.js';

/** Milliseconds before a feed is opened again that the server refused; doubled each time. */
const FIRST_RETRY = 1_000;
const LONGEST_RETRY = 30_000;
/** Milliseconds without any event, after which a feed is opened again: two pings of the server are missing by then. */
const SILENCE_LIMIT = 45_000;

export type Connection =
  /** This page has no live figures. */
  'idle' | 'connecting' | 'live' | 'reconnecting' | 'refused';

export const connection = new Store<Connection>('idle');

export interface Live<T> {
  readonly data: T | null;
  /** Why the figures are not renewed. */
  readonly failure: RequestError | null;
}

/**
 * The figures of a view, as long as the page is visible: the server asks Redis only while a page looks. Keeps its
 * figures while only the order or the search changes.
 */
export function useLive<P extends View['page']>(view: Extract<View, { page: P }>): Live<Updates[P]> {
  const key = JSON.stringify(view);
  const subject = JSON.stringify([view.page, 'stream' in view ? view.stream : '', 'group' in view ? view.group : '']);
  const [state, setState] = useState<{ subject: string; data: Updates[P] | null; failure: RequestError | null }>();
  const feed = useRef<Feed<Updates[P]>>(undefined);
  useEffect(() => {
    const opened = new Feed<Updates[P]>((change) =>
      setState((before) => {
        const data = before?.subject === subject ? before.data : null;
        return { subject, data, ...change };
      }),
    );
    feed.current = opened;
    return () => opened.close();
  }, [subject]);
  useEffect(() => feed.current?.show(key), [key, subject]);
  const current = state?.subject === subject ? state : undefined;
  return { data: current?.data ?? null, failure: current?.failure ?? null };
}

/**
 * One event source at a time: none while the page is hidden, another one when the view changes, when the server asks for it, has ended
 * or refused it, or when nothing was received for too long. With another view, and when the server asks, the source before stays open
 * until the next one is, because the server starts from the beginning for the first viewer.
 */
class Feed<T extends Updates[keyof Updates]> {
  readonly #change: (change: { data?: T; failure: RequestError | null }) => void;
  #view: string | undefined;
  #source: EventSource | undefined;
  /** Open, and not listened to any more. */
  #before: EventSource | undefined;
  #retry = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #watchdog: ReturnType<typeof setTimeout> | undefined;
  #isClosed = false;

  constructor(change: (change: { data?: T; failure: RequestError | null }) => void) {
    this.#change = change;
    document.addEventListener('visibilitychange', this.#look);
    connection.set('connecting');
  }

  show(view: string): void {
    if (view === this.#view) return;
    this.#view = view;
    if (this.#source?.readyState === EventSource.OPEN) {
      this.#before?.close();
      this.#before = this.#source;
    } else {
      this.#source?.close();
    }
    this.#source = undefined;
    this.#look();
  }

  close(): void {
    this.#isClosed = true;
    document.removeEventListener('visibilitychange', this.#look);
    this.#stop();
    connection.set('idle');
    forgetUpdates();
  }

  readonly #look = (): void => {
    if (document.hidden) this.#stop();
    else if (!this.#source) this.#open();
  };

  #stop(): void {
    clearTimeout(this.#timer);
    clearTimeout(this.#watchdog);
    this.#before?.close();
    this.#source?.close();
    this.#before = this.#source = undefined;
  }

  #open(): void {
    clearTimeout(this.#timer);
    const url = new URL('api/live', base);
    url.searchParams.set('view', this.#view ?? '');
    const source = new EventSource(url);
    this.#source = source;
    this.#hear();
    const on = (type: string, listener: (event: MessageEvent<string>) => void): void =>
      source.addEventListener(type, (event) => {
        // The view may have changed since.
        if (this.#source !== source) return;
        this.#hear();
        listener(event as MessageEvent<string>);
      });
    on('open', () => {
      this.#before?.close();
      this.#before = undefined;
    });
    on('ping', () => undefined);
    on('update', ({ data: text }) => {
      const data = JSON.parse(text) as T & Sent;
      noteUpdate(data);
      this.#retry = 0;
      connection.set('live');
      this.#change({ data, failure: null });
    });
    on('failed', ({ data: text }) => {
      connection.set('refused');
      this.#change({ failure: new RequestError(200, JSON.parse(text) as Failure) });
    });
    on('renew', () => {
      this.#before?.close();
      this.#before = source;
      this.#open();
    });
    on('gone', () => this.#openLater());
    on('error', () => {
      // Otherwise the browser connects again by itself.
      if (source.readyState === EventSource.CLOSED) this.#openLater();
      else connection.set('reconnecting');
    });
  }

  /** A connection that was lost without a word, as after a sleep of the computer, stays open for the browser. */
  #hear(): void {
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => {
      this.#stop();
      connection.set('reconnecting');
      this.#look();
    }, SILENCE_LIMIT);
  }

  #openLater(): void {
    this.#stop();
    connection.set('reconnecting');
    const delay = Math.min(LONGEST_RETRY, FIRST_RETRY * 2 ** this.#retry++);
    this.#timer = setTimeout(this.#look, delay);
    // An event source does not tell why it was refused; a plain request does.
    get('session', { view: this.#view }).catch((failure: unknown) => {
      if (this.#isClosed || !(failure instanceof RequestError)) return;
      connection.set('refused');
      this.#change({ failure });
    });
  }
}
