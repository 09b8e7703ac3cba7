// Which stretch of time: how far back, or from one day to another.
import { Text } from "@/ui/text";
import { chosenSpan, firstDay, kLast, lastDay, sinceOf, spanChosen, untilOf } from "@/lib/span";

export function Span({ label, since, until, onSpan, any }: { label: string; since: string; until: string; onSpan: (span: { since?: string; until?: string }) => void; any?: string }) {
  const choice = chosenSpan(since, until) || (any ? "" : "days"); // where there must be one, and both days were taken away
  const known = choice === "" || choice === "days" || kLast.some(([value]) => value === choice);
  return (
    <>
      <select aria-label={label} value={choice} onChange={(event) => onSpan(spanChosen(event.target.value, Date.now()))}>
        {any && <option value="">{any}</option>}
        {kLast.map(([value, text]) => <option key={value} value={value}>{text}</option>)}
        {!known && <option value={choice}>Last {choice}</option>}
        <option value="days">From day to day</option>
      </select>
      {choice === "days" && <>
        <Text type="date" label={`${label} from`} value={firstDay(since)} onValue={(day) => { const at = day ? sinceOf(day) : ""; if (at !== null) onSpan({ since: at }); }} />
        <span className="faint" aria-hidden="true">to</span>
        <Text type="date" label={`${label} to, with this day`} value={lastDay(until)} onValue={(day) => { const at = day ? untilOf(day) : ""; if (at !== null) onSpan({ until: at }); }} />
      </>}
    </>
  );
}
