/** Removes the accepted items from the list, and returns them. */
export function takeFrom<T>(list: T[], isWanted: (item: T) => boolean): T[] {
  const taken: T[] = [];
  let kept = 0;
  for (const item of list) {
    if (isWanted(item)) taken.push(item);
    else list[kept++] = item;
  }
  list.length = kept;
  return taken;
}
