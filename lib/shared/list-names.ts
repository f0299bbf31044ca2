/** More names than this make a log line unreadable; a service may have hundreds of streams. */
const MAX_NAMED = 20;

/** The first names of a list, for a log line. */
export function listNames(names: readonly string[]): string {
  const left = names.length - MAX_NAMED;
  return names.slice(0, MAX_NAMED).join(', ') + (left > 0 ? `, and ${left} more` : '');
}

export function quoted(name: string): string {
  return `'${name}'`;
}
