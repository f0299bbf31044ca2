import { describe, expect, it } from '@jest/globals';
import { PAGES } from '../../packages/console/src/api.js';
import { ADAPTERS, ConsoleApp } from '../support/console-app.js';
import { useStreams } from '../support/streams.js';

const streams = useStreams();

const start = (adapter: (typeof ADAPTERS)[number], path: string, prefix?: string): Promise<ConsoleApp> =>
  ConsoleApp.start(
    { guards: [], connection: streams.url, path },
    { adapter, configure: (app) => void (prefix && app.setGlobalPrefix(prefix)) },
  );

describe.each(ADAPTERS)('the pages on %s', (adapter) => {
  it.each([
    ['console', undefined, '/console'],
    ['admin/streams', 'api/v1', '/api/v1/admin/streams'],
  ])('are at the path %s below the global prefix %s', async (path, prefix, expected) => {
    await using console = await start(adapter, path, prefix);
    const index = await console.get(`${expected}/`);
    expect([index.status, index.headers.get('content-type')]).toEqual([200, 'text/html; charset=utf-8']);
    for (const page of PAGES) expect((await console.get(`${expected}/${page}?stream=a`)).text).toBe(index.text);
    const [asset] = /assets\/app-\w+\.js/.exec(index.text) ?? [];
    const { status, headers } = await console.get(`${expected}/${asset}`);
    expect([status, headers.get('content-type'), headers.get('cache-control')]).toEqual([
      200,
      'text/javascript; charset=utf-8',
      'public, max-age=31536000, immutable',
    ]);
    const redirected = await console.get(`${expected}?theme=dark`);
    const to = redirected.headers.get('location');
    expect([redirected.status, to]).toEqual([302, `${path.split('/').at(-1)}/?theme=dark`]);
  });

  it('are not there for other paths, and hide nothing of the application', async () => {
    await using console = await start(adapter, 'console');
    for (const path of [
      'other',
      'stream/x',
      'assets/index.html',
      'assets/..%2f..%2fpackage.json',
      'assets/x.js',
      'api/x',
    ])
      expect([path, (await console.get(path)).status]).toEqual([path, 404]);
    expect((await console.get('/own')).text).toBe('own');
  });
});
