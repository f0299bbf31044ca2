import { describe, expect, it } from '@jest/globals';
import { freePort } from '../support/free-port.js';
import { redisUrl } from '../support/redis.js';
import { runTool } from '../support/tool.js';

describe('the tool', () => {
  it.each([
    ['an unknown command', ['frobnicate'], /unknown command 'frobnicate'/],
    ['an unknown option', ['ls', '--frobnicate'], /unknown option '--frobnicate'/],
    ['a wrong URL', ['ls', '--url', 'http://127.0.0.1'], /connection must be/],
    ['a wrong limit of time', ['ls', '--timeout', 'soon'], /--timeout must be a time such as 10s; got 'soon'/],
    ['the console, which is not built yet', ['console'], /not part of this version/],
  ])('exits with 2 and does nothing for %s', async (_case, args, message) => {
    const { code, stdout, stderr } = await runTool(args);
    expect(stderr).toMatch(message);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  });

  it('exits with 1 and one line when no server answers at the URL', async () => {
    const port = await freePort();
    const { code, stdout, stderr } = await runTool(['ls', '--timeout', '500ms'], { url: `redis://127.0.0.1:${port}` });
    expect(stderr).toMatch(
      /^nrs: No connection to Redis at 127\.0\.0\.1:\d+ within 500 ms; last cause: .*ECONNREFUSED.*\n$/,
    );
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
  });

  it('takes the URL from REDIS_URL', async () => {
    const { code, stdout } = await runTool(['ls', 'no-such-stream', '--json'], { env: { REDIS_URL: redisUrl() } });
    expect({ code, stdout }).toEqual({ code: 0, stdout: '[]\n' });
  });
});
