interface Head<T> {
  readonly index: number;
  readonly item: T;
}

/** The items of several sources, each of which is in order, in one order; of equal ones, that of the first source comes first. */
export async function* merged<T>(
  sources: ReadonlyArray<AsyncGenerator<T>>,
  compare: (one: T, other: T) => number,
): AsyncGenerator<Head<T>> {
  const next = async (source: AsyncGenerator<T>, index: number): Promise<Head<T>[]> => {
    const { done, value } = await source.next();
    return done === true ? [] : [{ index, item: value }];
  };
  const earlier = (one: Head<T>, other: Head<T>): Head<T> =>
    (compare(one.item, other.item) || one.index - other.index) <= 0 ? one : other;
  const heads = (await Promise.all(sources.map(next))).flat();
  while (heads.length > 0) {
    const first = heads.reduce(earlier);
    yield first;
    heads.splice(heads.indexOf(first), 1, ...(await next(sources[first.index] as AsyncGenerator<T>, first.index)));
  }
}
