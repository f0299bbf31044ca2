import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import type { Redis } from 'ioredis';

const allow = (commands: string): string =>
  commands
    .trim()
    .split(/\s+/)
    .map((command) => `+${command}`)
    .join(' ');

/** The permissions that suffice for all features, for keys that begin with `app:`. */
export const NEEDED = `~app:* -@all ${allow(`
  xadd xreadgroup xread xack xautoclaim xclaim xpending xlen exists type xrange xrevrange xtrim xdel
  xgroup|create xgroup|createconsumer xgroup|delconsumer xgroup|destroy xgroup|setid
  xinfo|stream xinfo|groups xinfo|consumers info ping time client|setname`)}`;

/** Scripts; without them the package uses single commands. */
export const SCRIPTS = allow('eval evalsha script|load');

/** Without these permissions a blocked read ends only when its block time has passed. */
export const PROMPT_UNBLOCK = allow('client|id client|unblock');

/** The permissions that delivery exactly-once needs in addition to scripts. */
export const EXACTLY_ONCE = allow('hget hset hkeys hdel pexpire');

/** The permissions that delayed messages need in addition to scripts. */
export const DELAYED = allow(`get set pttl hget hset hdel zadd zrem zscore zrank zcount zrange zrangebyscore
  zremrangebyscore pexpire`);

/** The permissions that a client needs in a cluster. */
export const CLUSTER = allow('cluster|slots cluster|info cluster|shards asking');

/** The permissions of a row of SECURITY.md, as many texts as the row has. */
export function documentedFor(feature: string): string[] {
  const page = readFileSync(fileURLToPath(new URL('../../SECURITY.md', import.meta.url)), 'utf8');
  const row = page.split('\n').find((line) => line.startsWith('| `+') && line.includes(`| ${feature}`)) ?? '';
  const cell = row.replaceAll('\\|', '/').split('|')[1] ?? '';
  return [...cell.matchAll(/`(\+[^`]+)`/g)].map(([, rules]) => (rules as string).replaceAll('/', '|'));
}

/** Creates a user with these rules and the password `pw`. */
export async function setUser(admin: Redis, name: string, rules: string): Promise<void> {
  const commands = [...rules.matchAll(/\+([a-z]+)/g)].map(([, command]) => command as string);
  const infos = (await admin.call('COMMAND', 'INFO', ...commands)) as unknown[];
  // Older servers refuse a rule for a command that they do not have.
  const unknown = new Set(commands.filter((_, index) => infos[index] === null).map((command) => `+${command}`));
  const known = rules.split(/\s+/).filter((rule) => !unknown.has(rule));
  await admin.call('ACL', 'SETUSER', name, 'reset', 'on', '>pw', ...known);
}

/**
 * Returns the commands that the server has refused since it started, without their subcommands, each once. CLIENT is
 * left out: ioredis introduces itself with a subcommand that not all servers have and that is not needed.
 */
export async function refusedCommands(admin: Redis): Promise<string[]> {
  const entries = (await admin.call('ACL', 'LOG')) as unknown[][];
  const names = entries.map((entry) => String(entry[entry.indexOf('object') + 1]).split('|')[0] as string);
  return [...new Set(names)].filter((name) => name !== 'client').sort();
}
