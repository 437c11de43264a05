-- Reports for subscribers. Run it after the tables of the app.

create table public.reports (
    id bigint generated always as identity primary key,
    title text not null check (length(title) between 1 and 200)
);

-- Members read and write the reports of their active organization, while their token names the feature of its plan.
select clerk_sync.secure('public.reports', 'organization', feature => 'org:reports');
