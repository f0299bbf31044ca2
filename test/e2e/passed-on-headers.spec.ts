import { describe, expect, it } from '@jest/globals';
import { firstValueFrom } from 'rxjs';

import { RedisStreamsRecord, RedisStreamsRecordBuilder } from '../../lib/index.js';
import type { ClientRedisStreams, RedisStreamsContext } from '../../lib/index.js';
import { TestClientRedisStreams } from '../../lib/testing.js';
import { onEvent, onRequest } from '../support/controllers.js';
import { HAS_DISPATCH_HOOK, setDispatchHook } from '../support/dispatch-hook.js';
import { GROUP, useNest } from '../support/nest.js';
import { uniqueName } from '../support/redis.js';
import { until } from '../support/until.js';

type Headers = Readonly<Record<string, string>>;

const nest = useNest();

const OF_A_REQUEST = { 'correlation-id': 'a', 'reply-to': 'replies:b' };

function withMetadata(client: ClientRedisStreams, metadata: Headers): ClientRedisStreams {
  return setDispatchHook(client, (packet) => (packet.metadata = metadata));
}

function record(headers: Headers): RedisStreamsRecord {
  return new RedisStreamsRecordBuilder(1).setHeaders(headers).build();
}

describe.each<[string, () => ClientRedisStreams]>([
  ['a client', () => nest.client()],
  ['a test client', () => new TestClientRedisStreams()],
])('%s that emits an event', (_, create) => {
  it('refuses the headers of a request, which would make a request of it', async () => {
    const sending = firstValueFrom(create().emit(uniqueName('passed-on'), record(OF_A_REQUEST)));
    await expect(sending).rejects.toMatchObject({
      code: 'ERR_INVALID_OPTION',
      option: 'headers.reply-to',
      message: expect.stringContaining('give getMetadata()'),
    });
  });

  if (HAS_DISPATCH_HOOK) {
    it('refuses them also where a dispatch hook sets them, or a part of them', async () => {
      const { 'reply-to': replyTo, ...others } = OF_A_REQUEST;
      const hooked = withMetadata(create(), OF_A_REQUEST);
      await expect(firstValueFrom(hooked.emit(uniqueName('hook'), 1))).rejects.toThrow('headers.reply-to');
      const halfHooked = withMetadata(create(), { 'reply-to': replyTo });
      await expect(firstValueFrom(halfHooked.emit(uniqueName('hook'), record(others)))).rejects.toThrow(
        'headers.reply-to',
      );
    });
  }
});

it('setHeaders() takes what getMetadata() returns, undefined for a message without headers too', () => {
  expect(new RedisStreamsRecordBuilder(1).setHeader('tenant', 'a').setHeaders(undefined).build().headers).toEqual({});
});

it('a handler that passes on all headers of a message that was redriven for its group sends to all groups', async () => {
  const [source, event, request] = ['source', 'event', 'request'].map((name) => uniqueName(name)) as [
    string,
    string,
    string,
  ];
  const results: unknown[] = [];
  const client = nest.client();
  const passOn = async (_: unknown, context: RedisStreamsContext): Promise<void> => {
    const all = record(context.getHeaders());
    results.push(context.getHeaders(), await firstValueFrom(client.send(request, all)));
    await firstValueFrom(client.emit(event, all));
  };
  const note = (data: unknown, context: RedisStreamsContext): unknown => results.push(data, context.getHeaders());
  await nest.serve([onEvent(source, passOn)]);
  await nest.serve([onEvent(event, note), onRequest(request, () => 'answered')], { group: 'others' });
  const headers = { 'redrive-group': GROUP, tenant: 'a' };
  await nest.redis.xadd(
    source,
    '*',
    'msg',
    '1',
    ...Object.entries(headers).flatMap(([name, value]) => [`h:${name}`, value]),
  );

  await until('the event is handled', () => results.length === 4);
  expect(results).toEqual([headers, 'answered', 1, { tenant: 'a' }]);
});

it('the metadata of an event that expires does not have its expiry', async () => {
  const pattern = uniqueName('expiring');
  const seen: unknown[] = [];
  await nest.serve(onEvent(pattern, (_, context) => seen.push(context.getMetadata(), context.getHeaders())));
  const expiresAt = new Date(Date.now() + 60_000);
  await nest.emit(pattern, new RedisStreamsRecordBuilder(1).setHeader('tenant', 'a').setExpiresAt(expiresAt).build());

  await until('it is handled', () => seen.length === 2);
  expect(seen).toEqual([{ tenant: 'a' }, { tenant: 'a', 'expires-at': String(expiresAt.getTime()) }]);
});

it('a record needs no headers', async () => {
  const pattern = uniqueName('plain');
  await nest.emit(pattern, new RedisStreamsRecord('a'));
  expect((await nest.entries(pattern)).map(({ fields }) => fields)).toEqual([{ msg: '"a"' }]);
});
