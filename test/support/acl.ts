import type { Redis } from 'ioredis';

const allow = (commands: string): string =>
  commands
    .trim()
    .split(/\s+/)
    .map((command) => `+${command}`)
    .join(' ');

/** The permissions that suffice for everything, for keys that begin with `app:`. */
export const NEEDED = `~app:* -@all ${allow(`
  xadd xreadgroup xread xack xautoclaim xclaim xpending xlen exists type xrange xrevrange xtrim xdel
  xgroup|create xgroup|createconsumer xgroup|delconsumer xgroup|destroy xgroup|setid
  xinfo|stream xinfo|groups xinfo|consumers info ping client|setname`)}`;

/** Without these the same is done by single commands. */
export const SCRIPTS = allow('eval evalsha script|load');

/** Without these blocked reads end by themselves only. */
export const PROMPT_END = allow('client|id client|unblock');

/** What delivery exactly-once needs beyond scripts. */
export const ONCE = allow('hget hset hkeys hdel pexpire');

/** What a client needs in a cluster. */
export const OF_CLUSTER = allow('cluster|slots cluster|info cluster|shards asking');

/** Makes a user with these rules and the password `pw`. */
export async function setUser(admin: Redis, name: string, rules: string): Promise<void> {
  const commands = [...rules.matchAll(/\+([a-z]+)/g)].map(([, command]) => command as string);
  const infos = (await admin.call('COMMAND', 'INFO', ...commands)) as unknown[];
  // Older servers refuse a rule for a command that they do not have.
  const unknown = new Set(commands.filter((_, index) => infos[index] === null).map((command) => `+${command}`));
  const known = rules.split(/\s+/).filter((rule) => !unknown.has(rule));
  await admin.call('ACL', 'SETUSER', name, 'reset', 'on', '>pw', ...known);
}

/**
 * What was refused since the server started: commands without their subcommands, each once. CLIENT is left out, because
 * ioredis introduces itself by a subcommand that not all servers have, and nobody needs.
 */
export async function refusedCommands(admin: Redis): Promise<string[]> {
  const entries = (await admin.call('ACL', 'LOG')) as unknown[][];
  const names = entries.map((entry) => String(entry[entry.indexOf('object') + 1]).split('|')[0] as string);
  return [...new Set(names)].filter((name) => name !== 'client').sort();
}
