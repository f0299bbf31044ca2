import { describe, expect, it } from '@jest/globals';
import { ClientProxy } from '@nestjs/microservices';
import { firstValueFrom } from 'rxjs';

import { RedisStreamsRecord, RedisStreamsRecordBuilder } from '../../lib/index.js';
import type { ClientRedisStreams, RedisStreamsContext } from '../../lib/index.js';
import { TestClientRedisStreams } from '../../lib/testing.js';
import { onEvent, onRequest } from '../support/controllers.js';
import { GROUP, useNest } from '../support/nest.js';
import { uniqueName } from '../support/redis.js';
import { until } from '../support/until.js';

type Headers = Readonly<Record<string, string>>;

const nest = useNest();

const OF_A_REQUEST = { 'correlation-id': 'a', 'reply-to': 'replies:b' };

/** Nest 11 has no dispatch hook. */
const HAS_HOOK = 'setOnDispatchHook' in ClientProxy.prototype;

function withMetadata(client: ClientRedisStreams, metadata: Headers): ClientRedisStreams {
  const hooked = client as unknown as { setOnDispatchHook(hook: (packet: { metadata?: Headers }) => void): void };
  hooked.setOnDispatchHook((packet) => (packet.metadata = metadata));
  return client;
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
      message: expect.stringContaining('use getMetadata()'),
    });
  });

  it('refuses them also where a dispatch hook sets them, or a part of them', async () => {
    if (!HAS_HOOK) return;
    const { 'reply-to': replyTo, ...others } = OF_A_REQUEST;
    const hooked = withMetadata(create(), OF_A_REQUEST);
    await expect(firstValueFrom(hooked.emit(uniqueName('hook'), 1))).rejects.toThrow('headers.reply-to');
    const halfHooked = withMetadata(create(), { 'reply-to': replyTo });
    await expect(firstValueFrom(halfHooked.emit(uniqueName('hook'), record(others)))).rejects.toThrow(
      'headers.reply-to',
    );
  });
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
