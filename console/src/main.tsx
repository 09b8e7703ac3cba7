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

// One file per page, fetched when it is first looked at.
const page = (load: () => Promise<{ default: ComponentType }>) => {
  const Page = lazy(load);
  return <Page />;
};
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
        { index: true, element: page(() => import("@/pages/overview")) },
        { path: "queue", element: page(() => import("@/pages/queue")) },
        { path: "jobs", element: page(() => import("@/pages/jobs")) },
        { path: "jobs/:id", element: page(() => import("@/pages/job")) },
        { path: "nodes", element: page(() => import("@/pages/nodes")) },
        { path: "nodes/:name", element: page(() => import("@/pages/node")) },
        { path: "faults", element: page(() => import("@/pages/faults")) },
        { path: "projects", element: page(() => import("@/pages/projects")) },
        { path: "travel", element: page(() => import("@/pages/travel")) },
        { path: "submit", element: page(() => import("@/pages/submit")) },
        { path: "admin", element: page(() => import("@/pages/admin")) },
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
