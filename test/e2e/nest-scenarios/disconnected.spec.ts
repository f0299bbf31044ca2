import { describe, expect, it } from '@jest/globals';
import {
  Controller,
  HttpCode,
  Inject,
  InternalServerErrorException,
  Post,
  RequestTimeoutException,
} from '@nestjs/common';
import { ClientsModule } from '@nestjs/microservices';
import { Subject, catchError, lastValueFrom, tap, throwError, toArray } from 'rxjs';
import type { Observable } from 'rxjs';

import { ClientRedisStreams } from '../../../lib/index.js';
import type { ClientRedisStreamsOptions } from '../../../lib/index.js';
import { cutConnections } from '../../support/connections.js';
import { moduleOf, onRequest } from '../../support/controllers.js';
import { FaultProxy } from '../../support/fault-proxy.js';
import { freePort } from '../../support/free-port.js';
import { gatewayOf } from '../../support/http-gateway.js';
import { LogLines, createApp, useNest } from '../../support/nest.js';
import { RedisServer } from '../../support/redis-server.js';
import { uniqueName } from '../../support/redis.js';
import { until } from '../../support/until.js';

const nest = useNest();
const PATTERN = 'gateway-sum';

const UNREACHABLE = ['ERR_CONNECT_TIMEOUT', 'ERR_SEND_FAILED'];

const isUnreachable = (code: string | undefined): boolean => UNREACHABLE.includes(code ?? '');

@Controller()
class GatewayController {
  constructor(@Inject('SUMS') private readonly client: ClientRedisStreams) {}

  @Post('request')
  @HttpCode(200)
  request(): Observable<unknown> {
    return this.#answered(this.client.send(PATTERN, [1, 2, 3]));
  }

  @Post('event')
  @HttpCode(200)
  event(): Observable<unknown> {
    return this.#answered(this.client.emit('gateway-event', 1));
  }

  @Post('local')
  @HttpCode(200)
  local(): string {
    return 'alive';
  }

  /** 408 when Redis cannot be reached. */
  #answered(answer: Observable<unknown>): Observable<unknown> {
    return answer.pipe(
      catchError(({ code }: { code?: string }) =>
        throwError(() =>
          isUnreachable(code) ? new RequestTimeoutException(code) : new InternalServerErrorException(code),
        ),
      ),
    );
  }
}

async function gateway(options: ClientRedisStreamsOptions): ReturnType<typeof gatewayOf> {
  const clients = ClientsModule.register([
    {
      name: 'SUMS',
      customClass: ClientRedisStreams,
      options: { logger: new LogLines(), blockTimeout: 1_000, ...options },
    },
  ]);
  return gatewayOf(await createApp(nest, moduleOf({ imports: [clients], controllers: [GatewayController] })));
}

const sums = onRequest(PATTERN, (terms: number[]) => terms.reduce((a, b) => a + b));

describe('a gateway whose Redis is not there', () => {
  it('starts, answers its routes with 408 within the timeout, and its other routes at once', async () => {
    const post = await gateway({ connection: `redis://127.0.0.1:${await freePort()}`, timeout: 500 });
    const start = Date.now();
    const [request, event] = [post('/request'), post('/event')];
    expect(await post('/local')).toEqual({ status: 200, body: 'alive' });

    expect((await request).status).toBe(408);
    expect((await event).status).toBe(408);
    expect(Date.now() - start).toBeLessThan(10_000);
    // No failure is remembered: the next one has its own time.
    expect((await post('/request')).status).toBe(408);
  });

  it('answers 200 once it is there, without a restart', async () => {
    const port = await freePort();
    const connection = `redis://127.0.0.1:${port}`;
    const post = await gateway({ connection, timeout: 500 });
    expect((await post('/event')).status).toBe(408);
    const redis = await RedisServer.start({ port });
    nest.closeLater({ close: () => redis.stop() });

    await until('an event is stored', async () => (await post('/event')).status === 200);
    await nest.serve(sums, { connection });
    expect(await post('/request')).toEqual({ status: 200, body: 6 });
  });
});

describe('after a lost connection', () => {
  it('a streamed answer continues where it was, and each value arrives once', async () => {
    const pattern = uniqueName('streamed');
    const values = new Subject<string>();
    await nest.serve(onRequest(pattern, () => values));
    const client = nest.client();
    const received: string[] = [];
    const answer = client.send<string>(pattern, {});
    const all = lastValueFrom(answer.pipe(toArray()));
    void all.catch(() => undefined);
    const done = new Promise<void>((resolve, reject) => {
      all.then((list) => (received.push(...list), resolve()), reject);
    });
    await until('the handler is subscribed to', () => values.observed);

    values.next('a');
    await cutConnections(nest.redis);
    values.next('b');
    values.next('c');
    values.complete();
    await done;
    expect(received).toEqual(['a', 'b', 'c']);
  });

  it.each([
    ['a value', 1],
    ['several values of one batch', 3],
  ])('%s of a streamed answer whose confirmation was lost arrives once', async (_name, count) => {
    const pattern = uniqueName('repeated');
    const values = new Subject<string>();
    const { port, pathname: database } = new URL(nest.url);
    const proxy = await FaultProxy.start(Number(port));
    nest.closeLater({ close: async () => proxy.stop() });
    await nest.serve(
      onRequest(pattern, () => values),
      { connection: proxy.url + database },
    );
    const received: string[] = [];
    const client = nest.client();
    const done = lastValueFrom(client.send<string>(pattern, {}).pipe(tap((value) => received.push(value))));
    void done.catch(() => undefined);
    await until('the handler is subscribed to', () => values.observed);
    values.next('first');
    await until('it arrives', () => received.length === 1);

    const batch = Array.from({ length: count }, (_, index) => `torn ${index}`);
    const torn = proxy.loseReplyTo('torn 0', 'writer');
    for (const value of batch) values.next(value);
    await torn;
    values.next('last but one');
    values.next('last');
    values.complete();
    await done;
    expect(received).toEqual(['first', ...batch, 'last but one', 'last']);
    const [replyStream] = (await nest.redis.keys('reply:*')) as [string];
    // Stored twice, as any message with delivery at-least-once.
    expect((await nest.entries(replyStream)).length).toBeGreaterThan(received.length);
  });

  it('the status of client and server goes from connected to reconnecting and back, and requests succeed', async () => {
    const { server } = await nest.serve(sums);
    const client = nest.client();
    const seen: Record<'client' | 'server', string[]> = { client: [], server: [] };
    server.status.subscribe((status) => void seen.server.push(status));
    client.status.subscribe((status) => void seen.client.push(status));
    expect(await lastValueFrom(client.send(PATTERN, [1, 2]))).toBe(3);
    await cutConnections(nest.redis);

    for (const side of ['client', 'server'] as const) {
      await until(`the ${side} is connected again`, () => {
        return seen[side].includes('reconnecting') && seen[side].at(-1) === 'connected';
      });
    }
    expect(await lastValueFrom(client.send(PATTERN, [3, 4]))).toBe(7);
  });
});

describe('with several instances of a service', () => {
  it('no request is lost or answered twice while instances close and others start', async () => {
    const pattern = uniqueName('rolling');
    const handled: number[] = [];
    const slow = onRequest(pattern, async (request: number) => {
      handled.push(request);
      await new Promise((resolve) => setTimeout(resolve, 20));
      return request + 1;
    });
    const instances = await Promise.all([1, 2, 3].map(() => nest.serve(slow, { concurrency: 4 })));
    const client = nest.client();
    const ask = async (request: number): Promise<unknown[]> =>
      lastValueFrom(client.send<unknown>(pattern, request).pipe(toArray()));
    const answers: Array<Promise<unknown[]>> = [];
    for (let request = 0; request < 150; request += 1) {
      answers.push(ask(request));
      const leaving = instances[Math.floor(request / 50)];
      if (request % 50 === 25) await Promise.all([leaving?.app.close(), nest.serve(slow, { concurrency: 4 })]);
    }

    expect(await Promise.all(answers)).toEqual(Array.from({ length: 150 }, (_, request) => [request + 1]));
    expect(handled.sort((a, b) => a - b)).toEqual(Array.from({ length: 150 }, (_, request) => request));
  });
});
