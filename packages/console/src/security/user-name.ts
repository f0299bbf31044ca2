const NAMES = ['username', 'name', 'email', 'id', 'sub'] as const;
const LONGEST = 200;

/** Who a request is from, as the application's guards have found out; null when they say nothing. */
export function userNameOf(request: unknown): string | null {
  const { user } = request as { user?: unknown };
  if (typeof user === 'string') return user === '' ? null : user.slice(0, LONGEST);
  if (typeof user !== 'object' || user === null) return null;
  for (const property of NAMES) {
    const value = (user as Record<string, unknown>)[property];
    if ((typeof value === 'string' && value !== '') || typeof value === 'number' || typeof value === 'bigint')
      return String(value).slice(0, LONGEST);
  }
  return null;
}
