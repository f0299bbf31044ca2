import type { ComponentChildren, JSX } from 'preact';

import { navigate } from '../data/router.js';

export interface Column<R> {
  /** Also the name of the order in the URL, where the column can be sorted. */
  readonly key: string;
  readonly label: string;
  /** Stands in the header instead of the label. */
  readonly head?: ComponentChildren;
  /** Figures stand on the right. */
  readonly isFigure?: boolean;
  /** Percent or rem: widths are fixed, so that nothing moves while figures change. */
  readonly width?: string;
  readonly isSortable?: boolean;
  readonly render: (row: R) => ComponentChildren;
}

export interface Order {
  readonly key: string;
  readonly isDescending: boolean;
}

interface TableProps<R> {
  /** For screen readers. */
  readonly caption: string;
  readonly columns: ReadonlyArray<Column<R>>;
  /** Null while they are loading. */
  readonly rows: readonly R[] | null;
  readonly rowKey: (row: R) => string;
  /** Below the row, over its whole width. */
  readonly below?: (row: R) => ComponentChildren;
  readonly isSelected?: (row: R) => boolean;
  readonly order?: Order;
  /** The URL of this page in another order. */
  readonly orderHref?: (order: Order) => string;
  readonly skeletons?: number;
  readonly class?: string;
}

/**
 * A table that becomes a list of cards on a phone. Roles are given, because browsers forget them for tables that are laid out in
 * another way.
 */
export function Table<R>(props: TableProps<R>): JSX.Element {
  const { caption, columns, rows, rowKey, below, isSelected } = props;
  return (
    <table class={`table ${props.class ?? ''}`} role="table" aria-busy={rows === null}>
      <caption class="hidden">{caption}</caption>
      <colgroup>
        {columns.map(({ key, width }) => (
          <col key={key} style={width ? { width } : undefined} />
        ))}
      </colgroup>
      <thead role="rowgroup">
        <tr role="row">
          {columns.map((column) => (
            <HeadCell key={column.key} column={column} order={props.order} orderHref={props.orderHref} />
          ))}
        </tr>
      </thead>
      {rows === null ? (
        <Skeletons columns={columns} count={props.skeletons ?? 6} hasBelow={below !== undefined} />
      ) : (
        rows.map((row) => (
          <tbody key={rowKey(row)} role="rowgroup" class={isSelected?.(row) ? 'selected' : undefined}>
            <tr role="row">
              {columns.map(({ key, label, isFigure, render }) => (
                <td key={key} role="cell" class={classOf(key, isFigure)} data-label={label}>
                  {render(row)}
                </td>
              ))}
            </tr>
            {below && (
              <tr role="row" class="below">
                <td role="cell" colSpan={columns.length}>
                  {below(row)}
                </td>
              </tr>
            )}
          </tbody>
        ))
      )}
    </table>
  );
}

function classOf(key: string, isFigure: boolean | undefined): string {
  return `${isFigure ? 'figure ' : ''}col-${key}`;
}

interface HeadCellProps<R> {
  readonly column: Column<R>;
  readonly order: Order | undefined;
  readonly orderHref: ((order: Order) => string) | undefined;
}

function HeadCell<R>({ column, order, orderHref }: HeadCellProps<R>): JSX.Element {
  const { key, label, isFigure, isSortable } = column;
  const classes = classOf(key, isFigure);
  if (!isSortable || !orderHref) {
    return (
      <th role="columnheader" scope="col" class={classes}>
        {column.head ?? label}
      </th>
    );
  }
  const isCurrent = order?.key === key;
  const direction = order?.isDescending ? 'descending' : 'ascending';
  // Figures are looked at from the largest.
  const next = { key, isDescending: isCurrent ? !order.isDescending : Boolean(isFigure) };
  return (
    <th role="columnheader" scope="col" class={classes} aria-sort={isCurrent ? direction : 'none'}>
      <button type="button" class="sort" onClick={() => navigate(orderHref(next), true)}>
        {label}
        <svg class={`arrow ${isCurrent ? direction : ''}`} viewBox="0 0 8 8" aria-hidden="true">
          <path d="M1 2.5h6L4 6.5z" />
        </svg>
      </button>
    </th>
  );
}

interface SkeletonsProps<R> {
  readonly columns: ReadonlyArray<Column<R>>;
  readonly count: number;
  readonly hasBelow: boolean;
}

function Skeletons<R>({ columns, count, hasBelow }: SkeletonsProps<R>): JSX.Element {
  return (
    <>
      {Array.from({ length: count }, (_, index) => (
        <tbody key={index} role="rowgroup" class="loading">
          <tr role="row">
            {columns.map(({ key, isFigure }) => (
              <td key={key} role="cell" class={classOf(key, isFigure)}>
                <span class="skeleton" />
              </td>
            ))}
          </tr>
          {hasBelow && (
            <tr role="row" class="below">
              <td role="cell" colSpan={columns.length}>
                <span class="skeleton chip" />
              </td>
            </tr>
          )}
        </tbody>
      ))}
    </>
  );
}
