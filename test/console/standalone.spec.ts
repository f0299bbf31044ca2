import { request as send } from 'node:http';
import type { OutgoingHttpHeaders } from 'node:http';
import { userInfo } from 'node:os';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { serveConsole } from '../../packages/console/src/index.js';
import type { ServeConsoleOptions, ServedConsole } from '../../packages/console/src/index.js';
import { CONSOLE_VERSION } from '../support/console-app.js';
import { useStreams } from '../support/streams.js';

const streams = useStreams();

interface Answer {
  readonly status: number | undefined;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly text: string;
}

/** Unlike `fetch`, it sends the header `host` that it is given. */
function ask(url: string, headers: OutgoingHttpHeaders = {}, method = 'GET', body?: string): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = send(url, { headers, method, agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
      response.on('end', () => resolve({ status: response.statusCode, headers: response.headers, text }));
    });
    request.on('error', reject).end(body);
  });
}

describe('a console that is served by itself', () => {
  let served: ServedConsole;
  const lines: string[] = [];
  const start = async (options: Partial<ServeConsoleOptions> = {}): Promise<void> => {
    const streamer = await streams.connect();
    served = await serveConsole({ streamer, port: 0, log: (line) => lines.push(line), ...options });
  };
  beforeEach(() => {
    lines.length = 0;
  });
  afterEach(() => served.close());

  /** The cookie for which the token of the URL is exchanged. */
  const cookieOf = async (url: string): Promise<string> => {
    const { headers } = await ask(url);
    return String(headers['set-cookie']).split(';')[0] ?? '';
  };
  const urlOf = (path: string): string => new URL(path, served.url).href;

  it('exchanges the token of its URL for a cookie that no script reads and no other site sends', async () => {
    await start();
    const { hostname, port, searchParams } = new URL(served.url);
    expect([hostname, searchParams.get('token')?.length]).toEqual(['127.0.0.1', 32]);
    const { status, headers } = await ask(`${served.url}&theme=dark`);
    expect([status, headers.location]).toEqual([303, '/console/?theme=dark']);
    expect(String(headers['set-cookie'])).toMatch(
      new RegExp(`^nrs-console-${port}=[\\w-]{32}; Path=/; HttpOnly; SameSite=Strict$`),
    );
    expect(String(headers['set-cookie'])).not.toContain(searchParams.get('token'));
    expect(headers['referrer-policy']).toBe('no-referrer');
    const cookie = await cookieOf(served.url);
    const page = await ask(urlOf('/console/'), { cookie: `other=1; ${cookie}` });
    expect([page.status, page.headers['content-type']]).toEqual([200, 'text/html; charset=utf-8']);
    const session = await ask(urlOf('/console/api/session'), { cookie });
    expect(JSON.parse(session.text)).toEqual({
      version: CONSOLE_VERSION,
      readOnly: true,
      showPayloads: false,
      user: userInfo().username,
    });
  });

  it('refuses every request that has neither token nor cookie', async () => {
    await start();
    const cookie = await cookieOf(served.url);
    const [name, value = ''] = cookie.split('=');
    const { searchParams } = new URL(served.url);
    const wrong: OutgoingHttpHeaders[] = [
      {},
      { cookie: `${name}=` },
      { cookie: `${name}=${value.slice(1)}` },
      { cookie: `${name}=${searchParams.get('token')}` },
      { cookie: `other=${value}` },
      { authorization: `Bearer ${value}` },
    ];
    for (const path of [
      '/',
      '/console/',
      '/console/stream',
      '/console/api/session',
      '/console/api/live?view={"page":"streams"}',
      '/console/assets/x.js',
      '/none',
      '/console/?token=',
      `/console/?token=${searchParams.get('token')}x`,
    ]) {
      for (const headers of wrong) {
        const { status, text, headers: answered } = await ask(urlOf(path), headers);
        expect([path, headers, status]).toEqual([path, headers, 401]);
        expect(text).toBe('Open the URL that was printed when the console was started: it has a token.\n');
        expect(answered['set-cookie']).toBeUndefined();
        expect(answered['content-security-policy']).toMatch(/default-src 'none'/);
      }
    }
    const post = await ask(
      urlOf(`/console/api/groups/pause?token=${searchParams.get('token')}`),
      { 'content-type': 'application/json' },
      'POST',
      '{}',
    );
    expect(post.status).toBe(401);
  });

  it('refuses names that are not its own, so that no page of another site can be at its address', async () => {
    await start();
    const cookie = await cookieOf(served.url);
    const { port } = new URL(served.url);
    for (const host of ['evil.test', `evil.test:${port}`, 'localhost.evil.test', '127.0.0.1.nip.io', 'x@y']) {
      const { status } = await ask(served.url, { host, cookie });
      expect([host, [400, 403]]).toEqual([host, expect.arrayContaining([status])]);
    }
    for (const host of [`127.0.0.1:${port}`, `localhost:${port}`, `[::1]:${port}`, 'localhost:9999', '192.168.1.5'])
      expect([host, (await ask(urlOf('/console/api/session'), { host, cookie })).status]).toEqual([host, 200]);
  });

  it('answers to the names that are allowed, at whatever port, and to no others', async () => {
    await start({ allowedHosts: ['Admin.Example.test', 'BÜRO.test'] });
    const cookie = await cookieOf(served.url);
    const statusOf = async (host: string) => (await ask(urlOf('/console/api/session'), { host, cookie })).status;
    for (const host of ['admin.example.test', 'admin.example.test:443', 'ADMIN.example.test', 'xn--bro-hoa.test'])
      expect([host, await statusOf(host)]).toEqual([host, 200]);
    for (const host of ['example.test', 'x.admin.example.test', 'admin.example.test.evil.test'])
      expect([host, await statusOf(host)]).toEqual([host, 403]);
    const { text } = await ask(served.url, { host: 'example.test' });
    expect(text).toMatch(/^The console does not answer to this name\. .*--allow-host/);
  });

  it.each([['example.test:8080'], ['http://example.test'], ['a b'], ['*.example.test'], ['x@y'], ['']])(
    'refuses to be started with %j as a name of its own',
    async (name) => {
      await start();
      const streamer = await streams.connect();
      await expect(serveConsole({ streamer, port: 0, allowedHosts: [name] })).rejects.toMatchObject({
        option: 'allowedHosts',
      });
    },
  );

  it('permits changes and shows payloads where it is told to, and tells who has changed what', async () => {
    await streams.redis.xadd('orders', '1-0', 'msg', 'secret');
    await streams.redis.xgroup('CREATE', 'orders', 'workers', '0');
    await streams.redis.xadd('others', '1-0', 'msg', 'x');
    await start({ readOnly: false, showPayloads: true, streams: ['orders'] });
    const cookie = await cookieOf(served.url);
    const message = await ask(urlOf('/console/api/message?stream=orders&id=1-0'), { cookie });
    expect(JSON.parse(message.text)).toMatchObject({ payload: { text: 'secret' } });
    expect((await ask(urlOf('/console/api/message?stream=others&id=1-0'), { cookie })).status).toBe(404);
    const headers = {
      cookie,
      'x-nrs-console': '1',
      'content-type': 'application/json',
      origin: new URL(served.url).origin,
    };
    const body = JSON.stringify({ stream: 'orders', group: 'workers' });
    const { text } = await ask(urlOf('/console/api/groups/pause'), headers, 'POST', body);
    expect(JSON.parse(text)).toEqual({ isPaused: true });
    expect(lines).toEqual([
      `Done for user "${userInfo().username}": pause a group {"stream":"orders","group":"workers"}: {"isPaused":true}`,
    ]);
  });

  it('fails for a port that is taken', async () => {
    await start();
    const streamer = await streams.connect();
    const port = Number(new URL(served.url).port);
    await expect(serveConsole({ streamer, port })).rejects.toMatchObject({ code: 'EADDRINUSE' });
  });
});
