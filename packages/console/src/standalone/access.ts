import { randomBytes, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { isIP } from 'node:net';
import { userInfo } from 'node:os';
import { InvalidOptionError } from 'nestjs-redis-streams';
import { setConsoleHeaders } from '../security/headers.guard.js';

const FOREIGN =
  'The console does not answer to this name. Open it by its address, or allow the name with --allow-host.';

/** Stands for this server where a path is taken apart. */
const BASE = 'http://console';

/**
 * Who may use a console that is served by itself: the browser in which its URL was opened, which has a token. The token is exchanged
 * for a cookie, so that it stays in no history, and no link and no page of another site brings the cookie along. What knows neither
 * is refused: other users of the machine, other programs, and pages of other sites whose names lead to this address.
 */
export class StandaloneAccess {
  readonly token = randomBytes(24).toString('base64url');
  readonly #session = randomBytes(24).toString('base64url');
  readonly #names: ReadonlySet<string | undefined>;
  readonly #user = userOfProcess();
  /** Cookies of one host belong to all of its ports. */
  #cookie = '';

  /**
   * @param host at which the server listens
   * @param allowed further names by which it is reached
   * @throws InvalidOptionError
   */
  constructor(host: string, allowed: readonly string[]) {
    this.#names = new Set(['localhost', host.toLowerCase(), ...allowed.map(allowedName)]);
  }

  /** Before the first request. */
  set port(port: number) {
    this.#cookie = `nrs-console-${port}`;
  }

  /** For `app.use()`: before every route, also before those that do not exist. */
  readonly check = (request: IncomingMessage, response: ServerResponse, next: () => void): void => {
    setConsoleHeaders(response);
    if (!this.#isOwnHost(request.headers.host)) return refuse(response, 403, FOREIGN);
    const { url: path = '/' } = request;
    if (!URL.canParse(path, BASE)) return refuse(response, 400, 'This is no path.');
    const url = new URL(path, BASE);
    const token = url.searchParams.get('token');
    if (token !== null && request.method === 'GET' && isEqual(token, this.token)) return this.#admit(url, response);
    if (!this.#hasCookie(request.headers.cookie)) {
      return refuse(response, 401, 'Open the URL that was printed when the console was started: it has a token.');
    }
    (request as { user?: unknown }).user = this.#user;
    next();
  };

  #admit(url: URL, response: ServerResponse): void {
    url.searchParams.delete('token');
    response.setHeader('set-cookie', `${this.#cookie}=${this.#session}; Path=/; HttpOnly; SameSite=Strict`);
    response.writeHead(303, { location: `${url.pathname}${url.search}` }).end();
  }

  #hasCookie(header: string | undefined): boolean {
    const cookies = (header ?? '').split(';').map((cookie) => cookie.trim().split('=', 2));
    return cookies.some(([name, value = '']) => name === this.#cookie && isEqual(value, this.#session));
  }

  /** An address cannot be made to lead here by others, but a name can, whose pages then have the same origin as the console. */
  #isOwnHost(header: string | undefined): boolean {
    if (header === undefined || !URL.canParse(`http://${header}`)) return false;
    const name = new URL(`http://${header}`).hostname.replace(/^\[|\]$/g, '');
    return isIP(name) !== 0 || this.#names.has(name);
  }
}

/** As browsers send it. @throws InvalidOptionError */
function allowedName(host: string): string {
  if (/^[^\s:/?#@*\\]+$/.test(host) && URL.canParse(`http://${host}`)) return new URL(`http://${host}`).hostname;
  throw new InvalidOptionError('allowedHosts', "must be names without a port, such as 'admin.example.com'", host);
}

function isEqual(given: string, own: string): boolean {
  const [one, other] = [Buffer.from(given), Buffer.from(own)];
  return one.length === other.length && timingSafeEqual(one, other);
}

function refuse(response: ServerResponse, status: number, message: string): void {
  response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8' }).end(`${message}\n`);
}

/** For the log of changes. The process may have a user without a name. */
function userOfProcess(): string | undefined {
  try {
    return userInfo().username;
  } catch {
    return undefined;
  }
}
