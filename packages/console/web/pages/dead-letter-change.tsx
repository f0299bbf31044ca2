import type { JSX } from 'preact';

import type { DeadLetterChange, DeadLetterChanged, DeadLetterFilter } from '../../src/api.js';
import { post } from '../data/client.js';
import { countOf, formatCount } from '../data/figures.js';
import { Confirm } from '../ui/confirm.js';
import { tell } from '../ui/notices.js';

export type Way = 'redrive' | 'delete';

export interface Planned {
  readonly way: Way;
  readonly filter: DeadLetterFilter;
  /** All that the filter finds, without them. */
  readonly ids?: readonly string[];
  /** Where they would go; none where the page does not know all of them. */
  readonly groups: readonly string[];
}

interface ChangeDialogProps {
  readonly planned: Planned;
  readonly onClose: () => void;
  readonly onDone: () => void;
}

/** Redrives or deletes after a dry run. */
export function ChangeDialog({ planned, onClose, onDone }: ChangeDialogProps): JSX.Element {
  const { way, filter, ids, groups } = planned;
  const isRedrive = way === 'redrive';
  const send = (dryRun: boolean, upTo?: string | null): Promise<DeadLetterChanged> => {
    const change: DeadLetterChange = { ...filter, ...(ids ? { ids } : upTo && { upTo }), dryRun };
    return post(`dead-letters/${way}`, change);
  };
  const target = groups.length > 0 ? groups.join(', ') : 'where it came from';
  /** Leaves dead letters that were stored after the dry run, which did not count them. */
  const run = async (preview: DeadLetterChanged | null): Promise<void> => {
    const { changed, skipped } = await send(false, preview?.upTo);
    const rest = skipped > 0 ? `; ${formatCount(skipped)} skipped` : '';
    tell(
      isRedrive
        ? `${countOf(changed, 'dead letter')} went back to ${target}${rest}.`
        : `${countOf(changed, 'dead letter')} deleted${rest}.`,
    );
    onDone();
  };
  return (
    <Confirm<DeadLetterChanged>
      title={isRedrive ? 'Redrive dead letters' : 'Delete dead letters'}
      action={isRedrive ? 'Redrive' : 'Delete'}
      isDangerous={!isRedrive}
      preview={() => send(true)}
      isPossible={({ changed }) => changed > 0}
      describe={(preview) =>
        preview && (
          <>
            <p class="outcome">
              <strong>{countOf(preview.changed, 'dead letter')}</strong>{' '}
              {isRedrive ? (
                <>
                  would go back to <strong>{target}</strong>
                </>
              ) : (
                'would be deleted'
              )}
              {preview.skipped > 0 && <>; {formatCount(preview.skipped)} skipped</>}.
            </p>
            {preview.skipped > 0 && (
              <p class="faint">
                Skipped are those that are gone, that name no origin, whose group does not exist any more, or whose
                message is still pending.
              </p>
            )}
            <p class="faint">
              {isRedrive
                ? 'Only the group in which a message failed handles it again.'
                : 'Deleted dead letters cannot be restored.'}
            </p>
          </>
        )
      }
      run={run}
      onClose={onClose}
    />
  );
}
