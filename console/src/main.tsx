import { QueryClientProvider } from "@tanstack/react-query";
import { lazy, StrictMode, type ComponentType } from "react";
import { createRoot } from "react-dom/client";
import { createBrowserRouter, RouterProvider, useRouteError, Link } from "react-router";
import { LiveProvider } from "@/api/live";
import { makeQueryClient } from "@/api/queries";
import { Guard } from "@/app/session";
import { Shell } from "@/app/shell";
import { Empty, Problem } from "@/ui/bits";
import { Toaster } from "@/ui/overlay";
import Login from "@/pages/login";
import "uplot/dist/uPlot.min.css";

// One file per page, fetched when it is first looked at; that of the address at once, beside the first question to the server.
const kPages = {
  "": () => import("@/pages/overview"), queue: () => import("@/pages/queue"), jobs: () => import("@/pages/jobs"), job: () => import("@/pages/job"), nodes: () => import("@/pages/nodes"), node: () => import("@/pages/node"),
  faults: () => import("@/pages/faults"), projects: () => import("@/pages/projects"), travel: () => import("@/pages/travel"), submit: () => import("@/pages/submit"), admin: () => import("@/pages/admin"),
} satisfies Record<string, () => Promise<{ default: ComponentType }>>;
const page = (name: keyof typeof kPages) => {
  const Page = lazy(kPages[name]);
  return <Page />;
};
const [here = "", below] = location.pathname.slice(import.meta.env.BASE_URL.length).split("/");
const first = below ? here.replace(/s$/, "") : here;
if (first in kPages) void kPages[first as keyof typeof kPages]().catch(() => {});
function Crashed() {
  const error = useRouteError();
  return <Problem error={error instanceof Error ? error : new Error("this page failed")} retry={() => location.reload()} />;
}
const router = createBrowserRouter([
  { path: "/login", element: <Login /> },
  {
    element: <Guard><LiveProvider><Shell /></LiveProvider></Guard>,
    children: [{
      errorElement: <Crashed />,
      children: [
        { index: true, element: page("") },
        { path: "queue", element: page("queue") },
        { path: "jobs", element: page("jobs") },
        { path: "jobs/:id", element: page("job") },
        { path: "nodes", element: page("nodes") },
        { path: "nodes/:name", element: page("node") },
        { path: "faults", element: page("faults") },
        { path: "projects", element: page("projects") },
        { path: "travel", element: page("travel") },
        { path: "submit", element: page("submit") },
        { path: "admin", element: page("admin") },
        { path: "*", element: <Empty title="There is no such page"><Link to="/">Overview</Link></Empty> },
      ],
    }],
  },
], { basename: import.meta.env.BASE_URL.replace(/\/$/, "") });

const queries = makeQueryClient();
createRoot(document.getElementById("root")!).render(
  <StrictMode>
    <QueryClientProvider client={queries}>
      <Toaster><RouterProvider router={router} /></Toaster>
    </QueryClientProvider>
  </StrictMode>,
);
