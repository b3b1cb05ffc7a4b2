export type Json = string | number | boolean | null | { [key: string]: Json | undefined } | Json[];

export type Database = {
  public: {
    Tables: {
      bans: {
        Row: {
          banned_at: string;
          user_id: string;
        };
        ComputedFields: never;
        Insert: {
          banned_at?: string;
          user_id: string;
        };
        Update: {
          banned_at?: string;
          user_id?: string;
        };
        Relationships: [
          {
            foreignKeyName: "bans_user_id_fkey";
            columns: ["user_id"];
            isOneToOne: true;
            referencedRelation: "users";
            referencedColumns: ["id"];
          },
        ];
      };
      challenge_milestones: {
        Row: {
          challenge_id: string;
          description: string;
          number: number;
          title: string;
          verification: Database["public"]["Enums"]["milestone_verification"];
        };
        ComputedFields: never;
        Insert: {
          challenge_id: string;
          description?: string;
          number: number;
          title: string;
          verification?: Database["public"]["Enums"]["milestone_verification"];
        };
        Update: {
          challenge_id?: string;
          description?: string;
          number?: number;
          title?: string;
          verification?: Database["public"]["Enums"]["milestone_verification"];
        };
        Relationships: [
          {
            foreignKeyName: "challenge_milestones_challenge_id_fkey";
            columns: ["challenge_id"];
            isOneToOne: false;
            referencedRelation: "challenges";
            referencedColumns: ["id"];
          },
        ];
      };
      challenges: {
        Row: {
          active: boolean;
          description: string;
          id: string;
          max_duration: string;
          ordered: boolean;
          ranked: boolean;
          required_milestones: number;
          slug: string;
          title: string;
        };
        ComputedFields: never;
        Insert: {
          active?: boolean;
          description?: string;
          id?: string;
          max_duration?: string;
          ordered?: boolean;
          ranked?: boolean;
          required_milestones?: number;
          slug: string;
          title: string;
        };
        Update: {
          active?: boolean;
          description?: string;
          id?: string;
          max_duration?: string;
          ordered?: boolean;
          ranked?: boolean;
          required_milestones?: number;
          slug?: string;
          title?: string;
        };
        Relationships: [];
      };
      milestones: {
        Row: {
          attempts: number;
          completed_at: string | null;
          id: string;
          milestone_number: number;
          next_attempt_at: string | null;
          passed: boolean;
          pending: boolean;
          published: boolean;
          requested_at: string | null;
          session_id: string;
          user_id: string;
        };
        ComputedFields: never;
        Insert: {
          attempts?: number;
          completed_at?: string | null;
          id?: string;
          milestone_number: number;
          next_attempt_at?: string | null;
          passed?: boolean;
          pending?: boolean;
          published?: boolean;
          requested_at?: string | null;
          session_id: string;
          user_id: string;
        };
        Update: {
          attempts?: number;
          completed_at?: string | null;
          id?: string;
          milestone_number?: number;
          next_attempt_at?: string | null;
          passed?: boolean;
          pending?: boolean;
          published?: boolean;
          requested_at?: string | null;
          session_id?: string;
          user_id?: string;
        };
        Relationships: [
          {
            foreignKeyName: "milestones_session_fkey";
            columns: ["user_id", "session_id"];
            isOneToOne: false;
            referencedRelation: "live_sessions";
            referencedColumns: ["user_id", "id"];
          },
          {
            foreignKeyName: "milestones_session_fkey";
            columns: ["user_id", "session_id"];
            isOneToOne: false;
            referencedRelation: "sessions";
            referencedColumns: ["user_id", "id"];
          },
        ];
      };
      personal_bests: {
        Row: {
          challenge_id: string;
          end_time: string;
          submission_id: string;
          tech_stack_key: string;
          total_ms: number;
          user_id: string;
        };
        ComputedFields: never;
        Insert: {
          challenge_id: string;
          end_time: string;
          submission_id: string;
          tech_stack_key: string;
          total_ms: number;
          user_id: string;
        };
        Update: {
          challenge_id?: string;
          end_time?: string;
          submission_id?: string;
          tech_stack_key?: string;
          total_ms?: number;
          user_id?: string;
        };
        Relationships: [];
      };
      sessions: {
        Row: {
          challenge_id: string;
          clock_went_back_ms: number | null;
          deadline: string;
          end_time: string | null;
          id: string;
          published: boolean;
          start_time: string;
          status: Database["public"]["Enums"]["session_status"];
          tech_stack: string;
          tech_stack_key: string;
          total_ms: number | null;
          total_time: string | null;
          user_id: string;
        };
        ComputedFields: never;
        Insert: {
          challenge_id: string;
          clock_went_back_ms?: number | null;
          deadline: string;
          end_time?: string | null;
          id?: string;
          published?: boolean;
          start_time?: string;
          status?: Database["public"]["Enums"]["session_status"];
          tech_stack: string;
          tech_stack_key?: string;
          total_ms?: never;
          total_time?: never;
          user_id: string;
        };
        Update: {
          challenge_id?: string;
          clock_went_back_ms?: number | null;
          deadline?: string;
          end_time?: string | null;
          id?: string;
          published?: boolean;
          start_time?: string;
          status?: Database["public"]["Enums"]["session_status"];
          tech_stack?: string;
          tech_stack_key?: string;
          total_ms?: never;
          total_time?: never;
          user_id?: string;
        };
        Relationships: [
          {
            foreignKeyName: "sessions_challenge_id_fkey";
            columns: ["challenge_id"];
            isOneToOne: false;
            referencedRelation: "challenges";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "sessions_user_id_fkey";
            columns: ["user_id"];
            isOneToOne: false;
            referencedRelation: "users";
            referencedColumns: ["id"];
          },
        ];
      };
      submissions: {
        Row: {
          challenge_id: string;
          claimed_at: string | null;
          claimed_by: string | null;
          end_time: string;
          id: string;
          packages: string[];
          review_reason: string | null;
          reviewed_at: string | null;
          reviewed_by: string | null;
          revision: number;
          session_id: string;
          status: Database["public"]["Enums"]["submission_status"];
          submitted_at: string;
          tech_stack: string;
          tech_stack_key: string;
          total_ms: number;
          total_time: string | null;
          user_id: string;
          video_key: string | null;
          video_url: string | null;
        };
        ComputedFields: never;
        Insert: {
          challenge_id: string;
          claimed_at?: string | null;
          claimed_by?: string | null;
          end_time: string;
          id?: string;
          packages?: string[];
          review_reason?: string | null;
          reviewed_at?: string | null;
          reviewed_by?: string | null;
          revision?: number;
          session_id: string;
          status?: Database["public"]["Enums"]["submission_status"];
          submitted_at?: string;
          tech_stack: string;
          tech_stack_key: string;
          total_ms: number;
          total_time?: never;
          user_id: string;
          video_key?: never;
          video_url?: string | null;
        };
        Update: {
          challenge_id?: string;
          claimed_at?: string | null;
          claimed_by?: string | null;
          end_time?: string;
          id?: string;
          packages?: string[];
          review_reason?: string | null;
          reviewed_at?: string | null;
          reviewed_by?: string | null;
          revision?: number;
          session_id?: string;
          status?: Database["public"]["Enums"]["submission_status"];
          submitted_at?: string;
          tech_stack?: string;
          tech_stack_key?: string;
          total_ms?: number;
          total_time?: never;
          user_id?: string;
          video_key?: never;
          video_url?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: "submissions_challenge_id_fkey";
            columns: ["challenge_id"];
            isOneToOne: false;
            referencedRelation: "challenges";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "submissions_claimed_by_fkey";
            columns: ["claimed_by"];
            isOneToOne: false;
            referencedRelation: "users";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "submissions_reviewed_by_fkey";
            columns: ["reviewed_by"];
            isOneToOne: false;
            referencedRelation: "users";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "submissions_session_fkey";
            columns: ["user_id", "session_id"];
            isOneToOne: false;
            referencedRelation: "live_sessions";
            referencedColumns: ["user_id", "id"];
          },
          {
            foreignKeyName: "submissions_session_fkey";
            columns: ["user_id", "session_id"];
            isOneToOne: false;
            referencedRelation: "sessions";
            referencedColumns: ["user_id", "id"];
          },
        ];
      };
      tech_stack_synonyms: {
        Row: {
          id: string;
          name: string;
          spelling: string;
        };
        ComputedFields: never;
        Insert: {
          id?: string;
          name: string;
          spelling: string;
        };
        Update: {
          id?: string;
          name?: string;
          spelling?: string;
        };
        Relationships: [];
      };
      users: {
        Row: {
          created_at: string;
          erased_at: string | null;
          id: string;
          role: Database["public"]["Enums"]["user_role"];
          username: string;
        };
        ComputedFields: never;
        Insert: {
          created_at?: string;
          erased_at?: string | null;
          id?: string;
          role?: Database["public"]["Enums"]["user_role"];
          username: string;
        };
        Update: {
          created_at?: string;
          erased_at?: string | null;
          id?: string;
          role?: Database["public"]["Enums"]["user_role"];
          username?: string;
        };
        Relationships: [];
      };
    };
    Views: {
      board_entries: {
        Row: {
          challenge_id: string;
          end_time: string;
          packages: string[];
          session_id: string;
          submission_id: string;
          submitted_at: string;
          tech_stack: string;
          tech_stack_key: string;
          total_ms: number;
          total_time: string | null;
          user_id: string;
          username: string;
          video_url: string | null;
        };
        ComputedFields: never;
        Relationships: [
          {
            foreignKeyName: "submissions_session_fkey";
            columns: ["user_id", "session_id"];
            isOneToOne: false;
            referencedRelation: "live_sessions";
            referencedColumns: ["user_id", "id"];
          },
          {
            foreignKeyName: "submissions_session_fkey";
            columns: ["user_id", "session_id"];
            isOneToOne: false;
            referencedRelation: "sessions";
            referencedColumns: ["user_id", "id"];
          },
        ];
      };
      live_sessions: {
        Row: {
          challenge_id: string;
          clock_went_back_ms: number | null;
          deadline: string;
          end_time: string | null;
          id: string;
          published: boolean;
          start_time: string;
          status: Database["public"]["Enums"]["session_status"] | null;
          tech_stack: string;
          tech_stack_key: string;
          total_ms: number | null;
          total_time: string | null;
          user_id: string;
        };
        ComputedFields: never;
        Relationships: [
          {
            foreignKeyName: "sessions_challenge_id_fkey";
            columns: ["challenge_id"];
            isOneToOne: false;
            referencedRelation: "challenges";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "sessions_user_id_fkey";
            columns: ["user_id"];
            isOneToOne: false;
            referencedRelation: "users";
            referencedColumns: ["id"];
          },
        ];
      };
      review_queue: {
        Row: {
          challenge: string | null;
          claim_expires_at: string | null;
          claimed_by: string | null;
          clock_went_back_ms: number | null;
          id: string;
          packages: string[];
          revision: number;
          runner: string;
          same_video: string[] | null;
          session_id: string;
          submitted_at: string;
          tech_stack: string;
          total_time: string | null;
          user_id: string;
          video_url: string | null;
          waiting: string | null;
        };
        ComputedFields: never;
        Relationships: [
          {
            foreignKeyName: "submissions_session_fkey";
            columns: ["user_id", "session_id"];
            isOneToOne: false;
            referencedRelation: "live_sessions";
            referencedColumns: ["user_id", "id"];
          },
          {
            foreignKeyName: "submissions_session_fkey";
            columns: ["user_id", "session_id"];
            isOneToOne: false;
            referencedRelation: "sessions";
            referencedColumns: ["user_id", "id"];
          },
        ];
      };
    };
    Functions: {
      [_ in never]: never;
    };
    Enums: {
      milestone_verification: "manual" | "answer" | "verifier";
      session_status: "running" | "judging" | "completed" | "incomplete" | "abandoned" | "expired";
      submission_status: "PENDING" | "APPROVED" | "REJECTED";
      user_role: "runner" | "moderator" | "verifier" | "admin";
    };
    CompositeTypes: {
      [_ in never]: never;
    };
  };
};

type DatabaseWithoutInternals = Omit<Database, "__InternalSupabase">;

type DefaultSchema = DatabaseWithoutInternals[Extract<keyof Database, "public">];

export type Tables<
  DefaultSchemaTableNameOrOptions extends
    | keyof (DefaultSchema["Tables"] & DefaultSchema["Views"])
    | { schema: keyof DatabaseWithoutInternals },
  TableName extends (DefaultSchemaTableNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  }
    ? keyof (DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"] &
        DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Views"])
    : never) = never,
> = DefaultSchemaTableNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? (DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"] &
      DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Views"])[TableName] extends {
      Row: infer R;
    }
    ? R
    : never
  : DefaultSchemaTableNameOrOptions extends keyof (DefaultSchema["Tables"] & DefaultSchema["Views"])
    ? (DefaultSchema["Tables"] & DefaultSchema["Views"])[DefaultSchemaTableNameOrOptions] extends {
        Row: infer R;
      }
      ? R
      : never
    : never;

export type TablesInsert<
  DefaultSchemaTableNameOrOptions extends
    | keyof DefaultSchema["Tables"]
    | { schema: keyof DatabaseWithoutInternals },
  TableName extends (DefaultSchemaTableNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  }
    ? keyof DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"]
    : never) = never,
> = DefaultSchemaTableNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"][TableName] extends {
      Insert: infer I;
    }
    ? I
    : never
  : DefaultSchemaTableNameOrOptions extends keyof DefaultSchema["Tables"]
    ? DefaultSchema["Tables"][DefaultSchemaTableNameOrOptions] extends {
        Insert: infer I;
      }
      ? I
      : never
    : never;

export type TablesUpdate<
  DefaultSchemaTableNameOrOptions extends
    | keyof DefaultSchema["Tables"]
    | { schema: keyof DatabaseWithoutInternals },
  TableName extends (DefaultSchemaTableNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  }
    ? keyof DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"]
    : never) = never,
> = DefaultSchemaTableNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"][TableName] extends {
      Update: infer U;
    }
    ? U
    : never
  : DefaultSchemaTableNameOrOptions extends keyof DefaultSchema["Tables"]
    ? DefaultSchema["Tables"][DefaultSchemaTableNameOrOptions] extends {
        Update: infer U;
      }
      ? U
      : never
    : never;

export type Enums<
  DefaultSchemaEnumNameOrOptions extends
    | keyof DefaultSchema["Enums"]
    | { schema: keyof DatabaseWithoutInternals },
  EnumName extends (DefaultSchemaEnumNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  }
    ? keyof DatabaseWithoutInternals[DefaultSchemaEnumNameOrOptions["schema"]]["Enums"]
    : never) = never,
> = DefaultSchemaEnumNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[DefaultSchemaEnumNameOrOptions["schema"]]["Enums"][EnumName]
  : DefaultSchemaEnumNameOrOptions extends keyof DefaultSchema["Enums"]
    ? DefaultSchema["Enums"][DefaultSchemaEnumNameOrOptions]
    : never;

export type CompositeTypes<
  PublicCompositeTypeNameOrOptions extends
    | keyof DefaultSchema["CompositeTypes"]
    | { schema: keyof DatabaseWithoutInternals },
  CompositeTypeName extends (PublicCompositeTypeNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  }
    ? keyof DatabaseWithoutInternals[PublicCompositeTypeNameOrOptions["schema"]]["CompositeTypes"]
    : never) = never,
> = PublicCompositeTypeNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[PublicCompositeTypeNameOrOptions["schema"]]["CompositeTypes"][CompositeTypeName]
  : PublicCompositeTypeNameOrOptions extends keyof DefaultSchema["CompositeTypes"]
    ? DefaultSchema["CompositeTypes"][PublicCompositeTypeNameOrOptions]
    : never;

export const Constants = {
  public: {
    Enums: {
      milestone_verification: ["manual", "answer", "verifier"],
      session_status: ["running", "judging", "completed", "incomplete", "abandoned", "expired"],
      submission_status: ["PENDING", "APPROVED", "REJECTED"],
      user_role: ["runner", "moderator", "verifier", "admin"],
    },
  },
} as const;
