// A list of any length that is read in pages. Its first page is live; what lies behind is fetched as one scrolls, and kept: asking again for
// two hundred pages with each event would help nobody. Who shows the list puts the two together (lib/rows.ts).
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { useState } from "react";

interface Page {
  next_page_token: string;
}
/** `ask` without a token: the first page. `refresh` in milliseconds; kept pages may stay as they are. */
export function usePaged<P extends Page>(headKey: readonly unknown[], keptKey: readonly unknown[], ask: (token?: string) => Promise<P>, refresh: { head: number; kept: number | false }) {
  const key = JSON.stringify(keptKey);
  const head = useQuery({ queryKey: headKey, queryFn: () => ask(), refetchInterval: refresh.head });
  // The first page as it was when one scrolled beyond it for the first time: the kept ones go on behind it.
  const [anchor, setAnchor] = useState<{ key: string; page: P } | null>(null);
  const mine = anchor?.key === key ? anchor.page : null;
  const more = useInfiniteQuery({
    queryKey: [...keptKey, mine?.next_page_token],
    queryFn: ({ pageParam }) => ask(pageParam),
    initialPageParam: mine?.next_page_token ?? "",
    getNextPageParam: (last) => last.next_page_token || undefined,
    enabled: mine !== null,
    staleTime: Infinity,
    gcTime: 60_000,
    refetchInterval: refresh.kept,
    refetchOnWindowFocus: false,
    refetchOnReconnect: false,
    placeholderData: undefined,
    structuralSharing: false, // to compare a hundred pages when one has come takes longer than to show it
  });
  const pages = mine ? more.data?.pages : undefined;
  const hasMore = mine ? more.hasNextPage || more.isPending : !!head.data?.next_page_token;
  const fetchMore = () => {
    if (head.isPlaceholderData) return;
    if (!mine) {
      if (head.data?.next_page_token) setAnchor({ key, page: head.data });
    } else if (more.hasNextPage && !more.isFetchingNextPage) void more.fetchNextPage();
  };
  /** So much has come in front that the kept pages no longer follow on the first. */
  const restart = () => setAnchor(null);
  return { head, anchor: mine, pages, hasMore, fetching: more.isFetching, error: mine ? more.error : null, fetchMore, restart };
}
