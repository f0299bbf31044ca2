import { EventEmitter, once } from 'node:events';
import type { MessageEvent } from '@nestjs/common';
import { afterEach, describe, expect, it, jest } from '@jest/globals';
import { Logger } from '@nestjs/common';
import type { Failure } from '../../packages/console/src/api.js';
import { LookCost } from '../../packages/console/src/live/look-cost.js';
import type { Live } from '../../packages/console/src/live/live.js';
import { Pace } from '../../packages/console/src/live/pace.js';
import { Topic } from '../../packages/console/src/live/topic.js';
import type { Look, News } from '../../packages/console/src/live/topic.js';
import { Topics } from '../../packages/console/src/live/topics.js';
import { Viewers } from '../../packages/console/src/live/viewers.js';
import { until } from '../support/until.js';

const LONG = 600_000;
const room = { requireRoom: (): void => undefined, close: (): void => undefined };

afterEach(() => void jest.restoreAllMocks());

/** A response that can be full. */
class Sink extends EventEmitter {
  writableNeedDrain = false;

  drain(): void {
    this.writableNeedDrain = false;
    this.emit('drain');
  }
}

describe('a viewer', () => {
  it('that is slow gets the latest news when there is room, and older ones are dropped', async () => {
    let tell: (news: News<unknown>) => void = () => undefined;
    let isWatched = true;
    const live: Pick<Live, 'watch' | 'requireRoom'> = {
      requireRoom: () => undefined,
      watch: (_view, viewer) => {
        tell = viewer;
        return () => (isWatched = false);
      },
    };
    const viewers = new Viewers(live as Live, { visit: LONG });
    const sink = new Sink();
    const events: MessageEvent[] = [];
    const subscription = viewers.events({ page: 'health' }, sink, null).subscribe((event) => events.push(event));
    tell({ value: { n: 1 } });
    sink.writableNeedDrain = true;
    for (let n = 2; n <= 1_000; n += 1) tell({ value: { n } });
    tell({ failure: { message: 'lost', code: null } });
    expect(sink.listenerCount('drain')).toBe(1);
    expect(events.map(({ data }) => data)).toEqual([{ n: 1, now: expect.any(Number) }]);
    sink.drain();
    expect(events.at(-1)).toEqual({ type: 'failed', data: { message: 'lost', code: null } });
    tell({ value: { n: 1_001 } });
    expect(events.map(({ data }) => data)).toEqual([
      { n: 1, now: expect.any(Number) },
      { message: 'lost', code: null },
      { n: 1_001, now: expect.any(Number) },
    ]);
    sink.writableNeedDrain = true;
    tell({ value: { n: 1_002 } });
    subscription.unsubscribe();
    expect([isWatched, sink.listenerCount('drain')]).toEqual([false, 0]);
  });

  it('is asked to open another stream after some minutes, not all at one time, and the first one ends soon after', () => {
    jest.useFakeTimers();
    try {
      const visit = 300_000;
      const viewers = new Viewers({ ...room, watch: () => () => undefined } as unknown as Live, { visit });
      const renewals: number[] = [];
      const ends: number[] = [];
      const start = Date.now();
      for (let n = 0; n < 20; n += 1) {
        viewers.events({ page: 'health' }, new Sink(), null).subscribe({
          next: ({ type }) => type === 'renew' && renewals.push(Date.now() - start),
          complete: () => ends.push(Date.now() - start),
        });
      }
      jest.advanceTimersByTime(visit);
      expect([renewals.length, new Set(renewals).size > 10]).toEqual([20, true]);
      expect(Math.min(...renewals)).toBeGreaterThanOrEqual(0.8 * visit - 1);
      jest.advanceTimersByTime(10_000);
      expect(ends).toEqual(renewals.map((at) => expect.closeTo(at + 10_000, -1)));
      expect(jest.getTimerCount()).toBe(0);
    } finally {
      jest.useRealTimers();
    }
  });

  it('that does not end does not hold up the end of the application for long', async () => {
    const viewers = new Viewers({ ...room, watch: () => () => undefined } as unknown as Live, { visit: LONG });
    const sink = new Sink();
    const events: MessageEvent[] = [];
    const ended = new Promise<void>((complete) => {
      viewers.events({ page: 'health' }, sink, null).subscribe({ next: (event) => events.push(event), complete });
    });
    await viewers.close();
    await ended;
    expect(events).toEqual([{ type: 'gone', data: {} }]);
    const late: MessageEvent[] = [];
    viewers.events({ page: 'health' }, sink, null).subscribe((event) => late.push(event));
    expect(late).toEqual([{ type: 'gone', data: {} }]);
  });

  it('is refused where there are too many, in all or of the same user, and admitted when another has left', () => {
    const viewers = new Viewers({ ...room, watch: () => () => undefined } as unknown as Live, { visit: LONG });
    const open = (user: string | null) => viewers.events({ page: 'health' }, new Sink(), user).subscribe();
    const statusOf = (user: string | null): number | undefined => {
      try {
        viewers.requireRoom({ page: 'health' }, user);
        return undefined;
      } catch (error) {
        return (error as { getStatus(): number }).getStatus();
      }
    };
    const own = Array.from({ length: 50 }, () => open('ada'));
    expect([statusOf('ada'), statusOf('bob'), statusOf(null)]).toEqual([429, undefined, undefined]);
    own[0]?.unsubscribe();
    expect(statusOf('ada')).toBeUndefined();
    const others = Array.from({ length: 951 }, () => open(null));
    expect([statusOf('ada'), statusOf('bob'), statusOf(null)]).toEqual([503, 503, 503]);
    for (const each of [...own, ...others]) each.unsubscribe();
    expect(statusOf('ada')).toBeUndefined();
  });
});

describe('a topic', () => {
  it('whose look has a fault tells viewers no details, logs them once, and looks again', async () => {
    const logged = jest.spyOn(Logger.prototype, 'error').mockImplementation(() => undefined);
    let looks = 0;
    const idle = new EventEmitter();
    const topic = new Topic<number>({
      look: async () => {
        looks += 1;
        if (looks < 4) throw new TypeError('secret');
        return looks;
      },
      pace: new Pace({ interval: 1, rest: 0 }),
      silence: () => undefined,
      onIdle: () => void idle.emit('idle'),
    });
    const news: Array<News<number>> = [];
    const leave = topic.watch((each) => news.push(each));
    await until('it has looked well', () => news.some((each) => 'value' in each));
    const left = once(idle, 'idle');
    leave();
    await left;
    const fault = { failure: { message: 'The console failed; its log has the reason', code: null } };
    expect(news.slice(0, 4)).toEqual([fault, fault, fault, { value: 4 }]);
    expect(logged.mock.calls).toEqual([[new TypeError('secret')]]);
  });

  /** Its looks end when the test says how. */
  class Looks {
    readonly news: Array<News<number>> = [];
    readonly idle = new EventEmitter();
    readonly topic: Topic<number>;
    count = 0;
    #settle: { resolve: (value: number) => void; reject: (error: Error) => void } | undefined;

    constructor(pace: Pace) {
      const look = ({ signal }: Look<number>): Promise<number> =>
        new Promise((resolve, reject) => {
          this.count += 1;
          this.#settle = { resolve, reject };
          signal.addEventListener('abort', () => resolve(0));
        });
      const onIdle = (): void => void this.idle.emit('idle');
      this.topic = new Topic<number>({ look, pace, silence: () => undefined, onIdle });
    }

    watch(): () => void {
      return this.topic.watch((each) => this.news.push(each));
    }

    succeed(): void {
      this.#settle?.resolve(this.count);
    }

    fail(): void {
      this.#settle?.reject(new Error('lost'));
    }
  }

  it('that is woken during a look looks at once after that look when it fails, and not when it succeeds', async () => {
    jest.spyOn(Logger.prototype, 'error').mockImplementation(() => undefined);
    const looks = new Looks(new Pace({ interval: LONG, rest: 20 }));
    const leave = looks.watch();
    await until('it looks', () => looks.count === 1);
    looks.topic.wake();
    looks.fail();
    await until('it looks again', () => looks.count === 2);
    looks.topic.wake();
    looks.succeed();
    await until('the value is there', () => looks.news.length === 2);
    await new Promise((resolve) => setImmediate(resolve));
    expect(looks.count).toBe(2);
    looks.topic.wake();
    await until('it looks, because it waits', () => looks.count === 3);
    const left = once(looks.idle, 'idle');
    leave();
    await left;
  });

  it('gives a viewer who comes back what it has measured, and looks no earlier than for one who has stayed', async () => {
    const looks = new Looks(new Pace({ interval: LONG, rest: 20 }));
    const left = once(looks.idle, 'idle');
    const leave = looks.watch();
    await until('it looks', () => looks.count === 1);
    looks.succeed();
    await until('the value is there', () => looks.news.length === 1);
    leave();
    await left;
    const leaveAgain = looks.watch();
    expect(looks.news).toEqual([{ value: 1 }, { value: 1 }]);
    await new Promise((resolve) => setImmediate(resolve));
    expect(looks.count).toBe(1);
    const leftAgain = once(looks.idle, 'idle');
    leaveAgain();
    await leftAgain;
  });

  it('gives a viewer who comes back no failure, which may be over', async () => {
    const looks = new Looks(new Pace({ interval: LONG, rest: 20 }));
    const left = once(looks.idle, 'idle');
    const leave = looks.watch();
    looks.topic.interrupt({ message: 'lost', code: null } satisfies Failure);
    leave();
    await left;
    looks.topic.interrupt({ message: 'lost', code: null });
    looks.watch()();
    expect(looks.news).toEqual([{ failure: { message: 'lost', code: null } }]);
  });
});

describe('the cost of a look', () => {
  const clock = (): { at: number } => {
    const time = { at: 0 };
    jest.spyOn(performance, 'now').mockImplementation(() => time.at);
    return time;
  };

  it('is the time in which Redis answers, without the time in which it is silent', () => {
    const time = clock();
    const cost = new LookCost();
    cost.start();
    time.at += 40;
    cost.progress();
    // Redis is stopped for 10 s.
    time.at += 10_000;
    cost.progress();
    time.at += 20;
    cost.end();
    expect(cost.value).toBe(60);
  });

  it('has a second of each silence when the look before was silent too: the stream may need that long', () => {
    const time = clock();
    const cost = new LookCost();
    const look = (answer: number): number => {
      cost.start();
      time.at += answer;
      cost.end();
      return cost.value;
    };
    expect([look(3_000), look(3_000), look(3_000), look(30), look(3_000)]).toEqual([0, 1_000, 1_000, 30, 0]);
  });
});

describe('topics', () => {
  const topics = (keep: number, onEmpty = (): void => undefined): Topics => new Topics({ most: 2, keep }, onEmpty);
  const create = (): Topic<unknown> =>
    new Topic<unknown>({
      look: async () => 1,
      pace: new Pace({ interval: 1, rest: 20 }),
      silence: () => undefined,
      onIdle: () => undefined,
    });

  it('are refused beyond a number that have viewers, and those without viewers make room', () => {
    const all = topics(LONG);
    const [a, b] = [all.take('a', create), all.take('b', create)];
    expect(() => all.take('c', create)).toThrow('The console shows 2 views at the same time');
    expect(all.take('a', create)).toBe(a);
    all.leave('b');
    all.leave('a');
    expect(all.take('b', create)).toBe(b);
    all.take('c', create);
    expect(all.take('b', create)).toBe(b);
    expect(() => all.requireRoom('a')).toThrow('close some of its pages');
    all.leave('b');
    all.close();
    expect([...all].map(([key]) => key)).toEqual(['c']);
  });

  it('are gone some time after their last viewer, or when the application closes', async () => {
    let empty = 0;
    const all = topics(1, () => (empty += 1));
    all.take('a', create);
    all.leave('a');
    await until('it is gone', () => empty === 1);
    all.take('b', create);
    all.close();
    expect(empty).toBe(1);
    all.leave('b');
    expect([empty, all.size]).toEqual([2, 0]);
  });
});

describe('the pace', () => {
  it('is the interval where that costs Redis less than its share of time', () => {
    const pace = new Pace({ interval: 2_000, rest: 20 });
    const [one, other] = [{}, {}];
    expect(pace.pauseOf(one)).toBe(2_000);
    pace.note(one, 60);
    pace.note(other, 40);
    expect([pace.pauseOf(one), pace.pauseOf(other)]).toEqual([2_000, 2_000]);
  });

  it('of an expensive topic is slow, and that of a cheap one beside it is not', () => {
    const pace = new Pace({ interval: 2_000, rest: 20 });
    const [list, page] = [{}, {}];
    pace.note(list, 1_000);
    expect(pace.pauseOf(list)).toBe(20_000);
    pace.note(page, 10);
    expect(pace.pauseOf(page)).toBe(2_000);
    // The part of the time that the page leaves: 0.05 - 0.005.
    expect(pace.pauseOf(list)).toBe(Math.round(1_000 / 0.045));
    pace.forget(page);
    pace.note(list, 30_000_000);
    expect(pace.pauseOf(list)).toBe(600_000);
  });

  it('takes no more than a twentieth of the time of Redis for all topics together', () => {
    const pace = new Pace({ interval: 2_000, rest: 20 });
    const costs = [1, 1, 5, 20, 20, 50, 300, 300, 2_000];
    const all = costs.map((cost) => ({ cost }));
    for (const topic of all) pace.note(topic, topic.cost);
    const share = all.reduce((sum, topic) => sum + topic.cost / pace.pauseOf(topic), 0);
    expect(share).toBeCloseTo(1 / 20, 4);
    // Equal ones are equally slow.
    expect(new Set(all.slice(-3).map((topic) => (topic.cost / pace.pauseOf(topic)).toFixed(4))).size).toBe(1);
  });
});
